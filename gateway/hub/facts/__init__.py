"""What events mean: projectors follow the journals and keep movements and who is in.

Law of this room: a projector sees each event of a journal in its order and once it is held without a gap, and again
when its time or its person was corrected. What it keeps can be made again from the events at any time; the ingest does
not know of it and never waits for it.

What lives here: base.py (the contract), presence.py (movements and presence), by_hand.py (those that no gateway
recorded), two_places.py (one card at two points at once), runner.py (which follows the watermarks).
What it never imports: sync, attendance, web; it knows none of those who read its tables.
Read first: base.py, then runner.py.
"""
