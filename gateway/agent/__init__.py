"""The agent on a machine at the school: reads a database or an export there and sends it to the hub.

What lives here: its settings (settings.py), one read and its upload (work.py, hub.py), the service (loop.py), the
test of its set-up (check.py). Connections go out only, to one hub; card numbers become card keys here and never travel.
What it never imports: the hub; the two share the lines of gateway.mis.lines.
Read first: work.py.
"""
