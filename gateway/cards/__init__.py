"""What a card is: numbers, types and the forms readers print.

What lives here: UIDs, encodings and their detective, the keyed card key, ISO 14443 constants, contents of a card.
What it never imports: anything of this project but errors; no I/O, no clock, no threads.
Read first: uid.py, then encodings.py.
"""
