"""The RC522 on SPI.

What lives here: the driver and its parts, from the bus up: line (registers), frames (prepared exchanges), chip (the
commands of ISO 14443), clones and content (queries to a card), place and options (settings).
What it never imports: another driver.
Read first: driver.py.
"""
