"""The gateway daemon on the Pi.

What lives here: app.py builds everything; buses (with antennas), pins, tapline, copies, refusals, relay, roster_sync,
presence, clock, health, reporter and the local pages.
What it never imports: hub and mis; they meet in access, link and roster.
Read first: app.py, then tapline.py.
"""
