"""Tapgate: the reader gateway for schools.

What lives here: two daemons in one package, the gateway beside the readers (`edge`) and the hub at the centre (`hub`).
What it never imports: a floor above itself; the floors are written in pyproject.toml and checked by import-linter.
Read first: README.md for the map, then `edge/tapline.py`, where one tap walks from reader to journal.
"""

__version__ = "0.1.0"
