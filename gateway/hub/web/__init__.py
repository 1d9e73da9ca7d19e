"""The hub's pages and their JSON versions.

What lives here: queries.py and suspicions.py (what pages show), what.py (describes events), app.py (routes), templates.
What it never imports: ingest's workers; it reads the store and changes it only through directory and sync.
Read first: app.py.
"""
