"""The commands: parse, call, print.

Here belongs what a user types and reads: arguments, environment, help, and the lines and objects that are printed.
"""
