"""People and cards.

What lives here: people.py and cards.py find and change them, matching.py assigns earlier taps to the person whose card
it was. Every change writes its audit line in the same transaction.
What it never imports: ingest, sync, fleet, web.
Read first: cards.py.
"""
