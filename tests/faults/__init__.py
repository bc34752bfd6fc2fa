"""The fault matrix: faults that an export is exposed to, and what must be true afterwards.

`matrix` has the rows, `invariants` the checks after every trial, `trial` the actions of a trial. Each row is a test
that takes a `Trial`. By default it runs with a handful of numbers (the quick tier). `make faults` runs it with all of
them (the full tier, `__main__`), and writes docs/fault-results.md.

The shape of data files (`shapes`) changes from trial to trial: two of three are plain JSON or CSV. The third has
another format, is compressed, is split, or has fewer columns; a test says with which of these its trials begin.
"""
