"""The local page: archives, exports and their progress in a browser on this machine.

Here belongs what a browser asks for. Everything that takes long runs in a process of its own, by the commands that
people type. The page only reads archives, and it removes nothing but exports that it lists. `guard` comes before all of
it.
"""
