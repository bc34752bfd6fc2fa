"""The options of an export: what it is asked to do.

Here belongs the declaration of every option, and the parsing and checking of its values.
"""
