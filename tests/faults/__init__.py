"""The fault matrix: what is done to an export, and what must be true afterwards.

`matrix` has the rows, `invariants` what is checked after every trial, `trial` what a trial can do. Each row is a test
that takes a `Trial`; it runs with a handful of numbers by default (the quick tier), and with all of them by
`make faults` (the full tier, `__main__`), which writes docs/fault-results.md.

What data files look like (`shapes`) changes from trial to trial: two of three are plain JSON or CSV, the third has one
of the other formats, is compressed, split, or has fewer columns; a test says with which of them its trials begin.
"""
