"""People and cards.

What lives here: people.py and cards.py find and change them, effective.py computes a person from the claims of the
sources, sites.py and changes.py follow hub.toml, matching.py assigns earlier taps to the person whose card it was.
Every change writes its audit line, and raises its site's revision, in the same transaction.
What it never imports: ingest, sync, fleet, web.
Read first: cards.py.
"""
