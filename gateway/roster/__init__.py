"""The signed card list on the Pi.

What lives here: file format, memory-mapped snapshot, delta, verification and the store of generations.
What it never imports: access rules are below; journal and link are neighbours and stay strangers.
Read first: file.py.
"""
