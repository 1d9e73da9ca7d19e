"""The MIS connectors.

What lives here: one connector a file behind the Connector contract of base.py, built by options.py; text.py, cells.py,
mapping.py and table.py read what exports have in common, paths.py what nested records do; summary.py says what was
read.
What it never imports: the hub; a connector yields records and never writes the store.
Read first: base.py.
"""
