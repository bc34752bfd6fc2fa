"""The fault matrix: what is done to an export, and what must be true afterwards.

`matrix` has the rows, `invariants` what is checked after every trial, `trial` what a trial can do. Each row is a test
that takes a `Trial`; it runs with a handful of numbers by default (the quick tier), and with all of them by
`make faults` (the full tier, `__main__`), which writes docs/fault-results.md.
"""
