"""One export, in order: the only package that knows the order.

Here belongs what brings the other packages together: the export, the dry run, the estimate, the benchmark.
"""
