"""The transports, which move bytes and know nothing about cards.

What lives here: SPI by ioctl, serial by pyserial, keyboards as input events, reset and interrupt pins,
joined memory ends, and which pins of the header are whose.
What it never imports: protocols and cards; wires carry bytes.
Read first: spi.py.
"""
