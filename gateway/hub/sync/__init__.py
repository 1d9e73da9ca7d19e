"""Keeping the directory in step with the MIS.

What lives here: feed.py (one read), known.py (what we have), match.py (who is who), plan.py (what would change),
guard.py (what is held back), holds.py and conflicts.py (what waits for a person), apply.py (one transaction), run.py
(one try, with its history), reading.py (how a source is read), jobs.py (when).
What it never imports: ingest, fleet, web.
Read first: run.py, then match.py and plan.py.
"""
