"""The durable record of taps: TinyDB over a segmented, checksummed log.

What lives here: frames, segments, storage, table, the append and acknowledge of events.
What it never imports: readers, outputs, roster, link.
Read first: frames.py, then journal.py.
"""
