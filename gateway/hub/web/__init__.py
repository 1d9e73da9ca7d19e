"""The office's pages and their JSON twins.

What lives here: queries.py (what pages show), forms.py (the JSON forms), app.py (routes), templates.
What it never imports: ingest's workers; it reads the store and changes it only through directory and sync.
Read first: app.py.
"""
