"""The office's pages and their JSON twins.

What lives here: queries.py and suspicions.py (what pages show), what.py (its words), app.py (routes), templates.
What it never imports: ingest's workers; it reads the store and changes it only through directory and sync.
Read first: app.py.
"""
