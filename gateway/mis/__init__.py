"""The MIS connectors.

What lives here: one connector a file behind the Connector contract of base.py.
What it never imports: the hub; a connector yields records and never writes the store.
Read first: base.py.
"""
