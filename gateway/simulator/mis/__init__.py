"""Small servers that answer as MIS services do, faults included.

What lives here: one school, and one server for each kind of live source, on loopback.
What it never imports: the hub.
Read first: school.py.
"""
