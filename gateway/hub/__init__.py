"""The hub daemon at the centre.

What lives here: store, scope, accounts, ingest, directory, sync, fleet and the office pages.
What it never imports: readers, outputs, transports, protocols, points, journal.
Read first: app.py.
"""
