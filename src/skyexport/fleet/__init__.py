"""Many archives: which ones, in what order, in which processes, and what came of each.

Here belongs what an export of one archive does not need to know: lists of archives, child processes that export, and
resuming.
"""
