"""The agent on a machine at the school: reads a database or an export there and sends it to the hub.

What lives here: its settings, one read and its upload. Connections go out only, to one hub; card numbers become card
keys here and never travel.
What it never imports: the hub; the two share the lines of gateway.mis.lines.
Read first: work.py.
"""
