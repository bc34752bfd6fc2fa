"""The machine, not the posts.

Here belongs what an operating system gives and takes: signals, locks, processes, memory, disks, and progress.
"""
