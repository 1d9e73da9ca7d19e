"""The register: what taps mean for the marks of a day, and what may be written where others write too.

What lives here: sessions of a day, the codes of England, the pure derivation of marks (derive) and the pure decision
about each (arbiter).
What it never imports: sync, web; deriving and deciding read no clock and no database.
Read first: derive.py, then arbiter.py.
"""
