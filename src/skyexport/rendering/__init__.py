"""A batch becomes a chunk, here or in a worker.

Here belongs what turns stored posts into bytes by a format: the renderers, and the worker processes that run them.
"""
