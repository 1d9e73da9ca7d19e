"""Keyboard-wedge readers: key events to lines of text.

Codes are those of linux/input-event-codes.h; what they type depends on the layout that the reader was set to, whatever
the machine's own is. Lock keys and modifiers change the state and type nothing; Alt with digits of the keypad types the
character of that number, as readers that do not depend on a layout do.

Law of this file: a key that no number has, and events that the kernel has dropped, spoil the line instead of vanishing
from it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.protocols.key_layouts import KEYPAD, LAYOUTS, key_name

EV_SYN, EV_KEY = 0x00, 0x01
SYN_DROPPED = 3
_UP, _DOWN = 0, 1  # 2 is autorepeat, which no reader means

SPOILT, LOST = b"\x00", b"\x01"
"""Placeholders in the line for a foreign key and for lost events; neither is text."""

_SHIFTS = frozenset({42, 54})
_CTRLS = frozenset({29, 97})
_LEFT_ALT = 56
_OTHER_MODIFIERS = frozenset({100, 125, 126})  # AltGr and the Windows keys
_CAPS_LOCK = 58
_OTHER_LOCKS = frozenset({69, 70})  # digits of the keypad mean digits, whatever NumLock says
_ENTERS = frozenset({28, 96, 15})  # Enter, keypad Enter, Tab
_ENDS = frozenset("jmi")  # with Ctrl: LF, CR, TAB
_LONGEST_ALT = 5


class WedgeParser:
    """Incremental: key events in, ASCII in the form that protocols.line reads.

    Args:
        layout: one of key_layouts.LAYOUTS.
        end_keys: codes that end a line beside Enter and Tab.
        ignored_keys: codes that type nothing, such as a function key that the reader sends for another program.

    Attributes:
        spoiler: the key that spoilt the line last, in words; empty after a line that none has spoilt.
        lost: how often the kernel has dropped events.
    """

    def __init__(self, layout: str = "us", end_keys: Iterable[int] = (), ignored_keys: Iterable[int] = ()) -> None:
        self._layout = LAYOUTS[layout]
        self._ends = _ENTERS | frozenset(end_keys)
        self._ignored = frozenset(ignored_keys) - self._ends
        self._held: set[int] = set()
        self._caps = False
        self._alt: str | None = None
        self.spoiler = ""
        self.lost = 0

    def feed(self, kind: int, code: int, value: int) -> bytes:
        """Take one input event; returns the bytes it types, with CR for the keys that end a line."""
        if kind == EV_SYN and code == SYN_DROPPED:
            # Held keys may have been released meanwhile, or the other way round.
            self.reset()
            self.lost += 1
            return LOST
        if kind != EV_KEY or code in _OTHER_LOCKS or code in self._ignored:
            return b""
        if code == _LEFT_ALT:
            return self._alt_moved(value)
        if code in _SHIFTS or code in _CTRLS or code in _OTHER_MODIFIERS:
            (self._held.add if value else self._held.discard)(code)
            return b""
        if value != _DOWN:
            return b""
        if code == _CAPS_LOCK:
            self._caps = not self._caps
            return b""
        return self._typed(code)

    def _alt_moved(self, value: int) -> bytes:
        if value == _DOWN:
            self._alt = ""
        if value != _UP or self._alt is None:
            return b""
        number, self._alt = self._alt, None
        if not number:
            return b""
        character = int(number)
        if character in {0x09, 0x0A, 0x0D}:
            return self._end()
        return bytes([character]) if 0x20 <= character < 0x7F else self._spoil("Alt with a number that is no character")

    def _typed(self, code: int) -> bytes:
        if self._alt is not None:
            digit = KEYPAD.get(code, "")
            if not digit.isdecimal() or len(self._alt) == _LONGEST_ALT:
                return self._spoil(f"Alt with the key {key_name(code)}")
            self._alt += digit
            return b""
        if code in self._ends:
            return self._end()
        if not self._held.isdisjoint(_CTRLS):
            ends = self._layout.plain.get(code, "") in _ENDS
            return self._end() if ends else self._spoil("Ctrl with another key")
        if not self._held.isdisjoint(_OTHER_MODIFIERS):
            return self._spoil("AltGr or the Windows key with another key")
        if code in KEYPAD:
            return KEYPAD[code].encode("ascii")
        key = self._character(code)
        return key.encode("ascii") if key else self._spoil(f"the key {key_name(code)}")

    def _character(self, code: int) -> str:
        plain = self._layout.plain.get(code, "")
        shift = not self._held.isdisjoint(_SHIFTS)
        if self._caps and (plain.isalpha() or code in self._layout.caps_shifts):
            shift = not shift
        return self._layout.shifted.get(code, "") if shift else plain

    def _spoil(self, what: str) -> bytes:
        self.spoiler = what
        return SPOILT

    def _end(self) -> bytes:
        # A modifier whose release was lost must not spoil the next tap; a reader presses it again.
        self._held.clear()
        return b"\r"

    def reset(self) -> None:
        """Forget held and locked keys: after a silence the reader starts with all keys released."""
        self._held.clear()
        self._caps = False
        self._alt = None


def keys_of(text: str, layout: str = "us") -> list[tuple[int, int]]:
    """Return the (code, value) pairs with which a reader types a text, and Enter after it.

    Raises:
        KeyError: the layout has no key for a character.
    """
    keys = LAYOUTS[layout]
    plain = {key: code for code, key in keys.plain.items()}
    shifted = {key: code for code, key in keys.shifted.items()}
    events: list[tuple[int, int]] = []
    for letter in text:
        shift = letter not in plain
        code = shifted[letter] if shift else plain[letter]
        pressed = [(code, _DOWN), (code, _UP)]
        events += [(42, _DOWN), *pressed, (42, _UP)] if shift else pressed
    return [*events, (28, _DOWN), (28, _UP)]
