"""Bytes on disk: complete under their name, or absent.

Here belongs what writes, names, replaces or removes files of an export: data, media, manifest and checksums.
"""
