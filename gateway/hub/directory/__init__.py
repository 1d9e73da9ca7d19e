"""People and cards.

What lives here: people.py and cards.py change and find them, matching.py gives earlier taps to the person a card turned
out to belong to. Every change writes its line of audit in the same transaction.
What it never imports: ingest, sync, fleet, web.
Read first: cards.py.
"""
