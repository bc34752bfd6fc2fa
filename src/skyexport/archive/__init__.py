"""The SQLite source, opened so that nothing else can be read or changed.

Here belongs what reads bskyarchive's tables: connections, posts in export order, authors, media, and the copy of one
state. Nothing here knows how a post is spelt or where it goes.
"""
