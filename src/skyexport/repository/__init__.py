"""A Bluesky repository, the CAR file that everyone can download, becomes an archive.

Here: reading the file as the work of a stranger, posts as bskyarchive would have stored them, and the archive that is
made of them. Reading archives is the package `archive`, which knows how an imported one differs.
"""
