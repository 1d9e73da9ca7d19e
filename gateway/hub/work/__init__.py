"""What the hub does by the clock, whatever it is.

What lives here: times.py (when a job runs next; pure), jobs.py (the table: due, lease, back-off, stop), runner.py (a
few workers, one run a source and a host), standby.py (a thread of which one hub process works and the others wait).
What it never imports: sync, fleet, ingest, mail, web; what a job does is passed in.
Read first: times.py, then runner.py.
"""
