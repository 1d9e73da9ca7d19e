"""The register: what taps mean for the marks of a day, and what may be written where others write too.

What lives here: sessions of a day, the codes of England, the pure derivation of marks (derive), the pure decision about
each (arbiter), the marks of a day from the database with the office's word over them (day), and the same from files
(explain).
What it never imports: sync, web; deriving and deciding read no clock and no database.
Read first: derive.py, then day.py.
"""
