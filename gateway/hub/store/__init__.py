"""The hub's database.

What lives here: tables, the engine for SQLite and PostgreSQL, and the migrations that ship inside the package.
What it never imports: link, roster, mis; rows and transactions only.
Read first: tables.py.
"""
