"""Readers that pretend to be a keyboard: key events to lines of text.

Scan codes are those of linux/input-event-codes.h and mean the US layout, whatever the machine's own is; set the reader
to US if it has a choice.
"""

from __future__ import annotations

EV_KEY = 0x01
_UP, _DOWN = 0, 1  # 2 is autorepeat, which no reader means

_ROWS = {
    2: "1234567890-=",
    16: "qwertyuiop[]",
    30: "asdfghjkl;'`",
    43: "\\zxcvbnm,./",
}
_SHIFTED = dict(zip("1234567890-=[];'`\\,./", '!@#$%^&*()_+{}:"~|<>?', strict=True))
_KEYPAD = dict(zip((71, 72, 73, 75, 76, 77, 79, 80, 81, 82, 83, 74, 78, 98), "7894561230.-+/", strict=True))
_KEYS = {start + place: key for start, row in _ROWS.items() for place, key in enumerate(row)} | _KEYPAD | {57: " "}
_SHIFTS = frozenset({42, 54})
_ENTERS = frozenset({28, 96, 15})  # Enter, keypad Enter, Tab


class WedgeParser:
    """Incremental: key events in, ASCII in the form that protocols.line reads."""

    def __init__(self) -> None:
        self._shifts: set[int] = set()

    def feed(self, kind: int, code: int, value: int) -> bytes:
        """Take one input event; returns the bytes it types, with CR for the keys that end a line."""
        if kind != EV_KEY:
            return b""
        if code in _SHIFTS:
            (self._shifts.add if value else self._shifts.discard)(code)
            return b""
        if value != _DOWN:
            return b""
        if code in _ENTERS:
            return b"\r"
        key = _KEYS.get(code)
        if key is None:
            # A key that no number has spoils the line instead of vanishing from it.
            return b"\x00"
        if self._shifts and code not in _KEYPAD:
            key = _SHIFTED.get(key, key.upper())
        return key.encode("ascii")

    def reset(self) -> None:
        self._shifts.clear()


def keys_of(text: str) -> list[tuple[int, int]]:
    """Return the (code, value) pairs with which a reader types a text, and Enter after it."""
    codes = {key: code for code, key in _KEYS.items() if code not in _KEYPAD}
    plain = {shifted: key for key, shifted in _SHIFTED.items()}
    events: list[tuple[int, int]] = []
    for letter in text:
        shift = letter in plain or letter.isupper()
        code = codes[plain.get(letter, letter.lower())]
        pressed = [(code, _DOWN), (code, _UP)]
        events += [(42, _DOWN), *pressed, (42, _UP)] if shift else pressed
    return [*events, (28, _DOWN), (28, _UP)]
