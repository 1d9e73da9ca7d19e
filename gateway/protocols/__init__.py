"""Bytes to events and back, one file a protocol.

What lives here: sans-I/O parsers and frame builders; they take bytes and give events and bytes.
What it never imports: transports; no I/O, no clock, no threads.
Read first: mfrc522.py.
"""
