"""Turns the bytes of an exported file into text: UTF-8, UTF-16, Windows-1252 or Mac Roman, whatever wrote it; pure.

Nothing is refused for its character set; what had to be guessed is a notice. Text leaves here composed (NFC).
"""

from __future__ import annotations

import re
import unicodedata

# UTF-8 that was once read as Windows-1252 or Latin-1, and letters that were lost for good.
_DAMAGE = re.compile("[\u00c2\u00c3][\u0080-\u00bf\u0152-\u2122]|\u00e2\u20ac|\ufffd|\\w\\?\\w")
_PROBE_BYTES = 65_536
_UTF16_SHARE = 0.3
# Accented letters of names in Mac Roman; in Windows-1252 the same bytes are signs, and curly quotes are left out.
_MAC_LETTERS = frozenset(range(0x80, 0xA0)) - {0x91, 0x92, 0x93, 0x94}


def decode_text(raw: bytes, name: str) -> tuple[str, str | None]:
    """Decode a file.

    Args:
        name: of the file, for the notice.

    Returns:
        The text and a sentence about what was guessed, None when nothing was.
    """
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _composed(raw.decode("utf-16", "replace")), f"{name} is UTF-16; save it as UTF-8."
    if encoding := _utf16_without_mark(raw):
        return _composed(raw.decode(encoding, "replace")), f"{name} is UTF-16 without a mark; save it as UTF-8."
    try:
        return _composed(raw.decode("utf-8-sig")), None
    except UnicodeDecodeError:
        pass
    if _is_mac_roman(raw):
        text, label = raw.decode("mac_roman"), "Mac Roman"
    else:
        text, label = raw.decode("cp1252", "replace"), "Windows-1252"
    return _composed(text), f"{name} is not UTF-8 and was read as {label}; check names with accents."


def count_damaged(names: list[str]) -> int:
    """Return how many names look as if an earlier program had read them in a wrong character set."""
    return sum(_DAMAGE.search(name) is not None for name in names)


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _utf16_without_mark(raw: bytes) -> str | None:
    probe = raw[:_PROBE_BYTES]
    if len(probe) < 4 or b"\0" not in probe:  # two characters
        return None
    half = len(probe) // 2
    if probe[1::2].count(0) > half * _UTF16_SHARE:
        return "utf-16-le"
    return "utf-16-be" if probe[::2].count(0) > half * _UTF16_SHARE else None


def _is_mac_roman(raw: bytes) -> bool:
    high = [byte for byte in raw if byte >= 0x80]  # beyond ASCII
    mac = sum(byte in _MAC_LETTERS for byte in high)
    # Windows-1252 has its accented letters from C0 on, Mac Roman below A0.
    latin = sum(byte >= 0xC0 for byte in high)  # see above
    return mac > latin
