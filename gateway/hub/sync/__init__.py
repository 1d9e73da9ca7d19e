"""Keeping the directory in step with the MIS.

What lives here: known.py (what we have), plan.py (what would change), guard.py (what is held back), apply.py (one
transaction), run.py (one try, with its history), jobs.py (when each source is read).
What it never imports: ingest, fleet, web.
Read first: run.py, then plan.py.
"""
