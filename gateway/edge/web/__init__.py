"""The gateway's own pages: status, lanes, kiosk, teach.

What lives here: routes and templates; they are handed a read-only view and a few named requests.
What it never imports: readers, outputs, journal internals; a page cannot open a door except by the same command path.
Read first: app.py.
"""
