"""People and cards.

What lives here: people.py and cards.py find and change them, effective.py computes a person from the claims of the
sources, groups.py and user_types.py say who is in which group and of which type, sites.py, register.py and changes.py
follow hub.toml, matching.py assigns earlier taps to the person whose card it was.
Every change writes its audit line, and raises its site's revision, in the same transaction.
What it never imports: ingest, sync, fleet, web.
Read first: cards.py.
"""
