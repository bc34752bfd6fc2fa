"""Pages for people: what `--format html` writes.

Follow the post: one pass over the archive decides which post is on which page, before anything is rendered (`plan`). A
worker reads the posts of a page, makes views of them, and fills a template. Search needs no server: its index is files.
"""
