"""The readers: protocol and transport joined into a stream of presentations.

What lives here: one driver a file behind the Reader contract of base.py.
What it never imports: another driver; outputs, journal, roster, link.
Read first: base.py, then serial_line.py; rc522/ is the largest.
"""
