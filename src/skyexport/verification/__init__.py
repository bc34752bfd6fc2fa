"""Exports that exist, read as the work of a stranger.

Here belongs what reads an export back: for verify, for the posts that are new since then, and for its media.
"""
