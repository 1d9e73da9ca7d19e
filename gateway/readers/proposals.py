"""Proposes the encoding of refused card numbers to the technician, without the number itself."""

from __future__ import annotations

from gateway.cards.encodings import decode
from gateway.errors import BadCardNumber

# Forms that prove themselves by a check byte or a first byte come first.
_CANDIDATES = (
    ("bcc-appended|em4100", "EM4100 with a check byte"),
    ("bcc-appended", "a UID with its check byte"),
    ("iso15693", "ISO 15693"),
    ("hex-lsb|iso15693", "ISO 15693, last byte first"),
    ("unpad|hex-msb", "a UID filled up with zeros; or strip = true"),
    ("hex-msb", "a UID"),
    ("em4100", "EM4100, 125 kHz; or legic"),
    ("iclass", "iCLASS; or felica"),
    ("sum-appended", "a UID with a check sum"),
    ("8h10d", "ten decimal digits of 125 kHz tags; or dec-msb of UIDs"),
    ("w26", "facility and card of 26 bits"),
    ("w34", "34 bits"),
    ("w35", "facility and card of HID Corporate 1000, 35 bits"),
    ("w37", "facility and card of HID H10304, 37 bits; or w48"),
    ("h10302", "HID H10302, 37 bits; or number"),
    ("dec-msb|em4100", "EM4100 as one decimal number"),
    ("number", "a number of its own"),
)
_SHOWN = 2


def propose_encoding(text: str) -> str:
    """Return settings under which a text would be a number; empty when there is none."""
    fits = []
    for encoding, what in _CANDIDATES:
        try:
            decode(text, encoding)
        except BadCardNumber:
            continue
        fits.append(f'encoding = "{encoding}" ({what})')
    return " or ".join(fits[:_SHOWN])
