"""The durable record of taps: TinyDB over a segmented, checksummed log.

What lives here: frames, segments, recovery, the hash chain, the writer thread, and TinyDB's view of it all.
What it never imports: readers, outputs, roster, link.
Read first: frames.py, then journal.py; writer.py is the law of what counts as kept.
"""
