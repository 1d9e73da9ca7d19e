"""Which character a key types in the keyboard layouts that readers can be set to.

Codes are those of linux/input-event-codes.h. A character that is not ASCII is no part of any card number and is left
out. Sources: the xkb symbol files of these names.
"""

from __future__ import annotations

from dataclasses import dataclass

_DIGITS = "1234567890"
# The first code of each row of a keyboard; one code a character.
_ROWS = {2: 12, 16: 12, 30: 12, 43: 11}
_SPACE, _OTHER = 57, 86  # 86 is the key beside the left shift, which US keyboards have not
_BLANK = "\x00"


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout.

    Attributes:
        plain: by code, what the key types; `shifted` what it types with shift.
        caps_shifts: codes for which CapsLock stands for shift; letters beside.
    """

    plain: dict[int, str]
    shifted: dict[int, str]
    caps_shifts: frozenset[int] = frozenset()


def _layout(plain: str, shifted: str, other: str, *, caps_digits: bool = False) -> Layout:
    tables: list[dict[int, str]] = []
    for text, beside in ((plain, other[0]), (shifted, other[1])):
        table = {_SPACE: " ", _OTHER: beside}
        place = 0
        for first, count in _ROWS.items():
            table |= {first + number: text[place + number] for number in range(count)}
            place += count
        tables.append({code: key for code, key in table.items() if key != _BLANK})
    return Layout(tables[0], tables[1], frozenset(range(2, 12)) if caps_digits else frozenset())


# Rows: digits to the key before backspace, Q row, A row with the key left of 1 at its end, the row of Z after the key
# that stands at its right or left. A blank is a character that is not ASCII, or a dead key.
LAYOUTS: dict[str, Layout] = {
    "us": _layout(
        "1234567890-=qwertyuiop[]asdfghjkl;'`\\zxcvbnm,./",
        '!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"~|ZXCVBNM<>?',
        "\x00\x00",
    ),
    "uk": _layout(
        "1234567890-=qwertyuiop[]asdfghjkl;'`#zxcvbnm,./",
        '!"\x00$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@\x00~ZXCVBNM<>?',
        "\\|",
    ),
    "fr": _layout(
        "&\x00\"'(-\x00_\x00\x00)=azertyuiop\x00$qsdfghjklm\x00\x00*wxcvbn,;:!",
        "1234567890\x00+AZERTYUIOP\x00\x00QSDFGHJKLM%\x00\x00WXCVBN?./\x00",
        "<>",
        caps_digits=True,
    ),
    "be": _layout(
        "&\x00\"'(\x00\x00!\x00\x00)-azertyuiop\x00$qsdfghjklm\x00\x00\x00wxcvbn,;:=",
        "1234567890\x00_AZERTYUIOP\x00*QSDFGHJKLM%\x00\x00WXCVBN?./+",
        "<>",
        caps_digits=True,
    ),
    "de": _layout(
        "1234567890\x00\x00qwertzuiop\x00+asdfghjkl\x00\x00\x00#yxcvbnm,.-",
        "!\"\x00$%&/()=?\x00QWERTZUIOP\x00*ASDFGHJKL\x00\x00\x00'YXCVBNM;:_",
        "<>",
    ),
    "ch": _layout(
        "1234567890'\x00qwertzuiop\x00\x00asdfghjkl\x00\x00\x00$yxcvbnm,.-",
        '+"*\x00%&/()=?\x00QWERTZUIOP\x00!ASDFGHJKL\x00\x00\x00\x00YXCVBNM;:_',
        "<>",
    ),
    "es": _layout(
        "1234567890'\x00qwertyuiop\x00+asdfghjkl\x00\x00\x00\x00zxcvbnm,.-",
        '!"\x00$%&/()=?\x00QWERTYUIOP\x00*ASDFGHJKL\x00\x00\x00\x00ZXCVBNM;:_',
        "<>",
    ),
    "it": _layout(
        "1234567890'\x00qwertyuiop\x00+asdfghjkl\x00\x00\\\x00zxcvbnm,.-",
        '!"\x00$%&/()=?^QWERTYUIOP\x00*ASDFGHJKL\x00\x00|\x00ZXCVBNM;:_',
        "<>",
    ),
    "nordic": _layout(
        "1234567890+\x00qwertyuiop\x00\x00asdfghjkl\x00\x00\x00'zxcvbnm,.-",
        '!"#\x00%&/()=?\x00QWERTYUIOP\x00\x00ASDFGHJKL\x00\x00\x00*ZXCVBNM;:_',
        "<>",
    ),
}
KEYPAD = dict(zip((71, 72, 73, 75, 76, 77, 79, 80, 81, 82, 83, 74, 78, 98, 55), "7894561230.-+/*", strict=True))

KEY_CODES: dict[str, int] = {
    "esc": 1, "backspace": 14, "tab": 15, "enter": 28, "space": 57, "kpenter": 96, "kpslash": 98, "kpasterisk": 55,
    "kpminus": 74, "kpplus": 78, "kpdot": 83, "kpcomma": 121, "home": 102, "up": 103, "pageup": 104, "left": 105,
    "right": 106, "end": 107, "down": 108, "pagedown": 109, "insert": 110, "delete": 111, "pause": 119, "print": 99,
    "menu": 127, "f11": 87, "f12": 88,
    **{f"f{number}": 58 + number for number in range(1, 11)},
    **{f"f{number}": 170 + number for number in range(13, 25)},
}  # fmt: skip
"""Keys that settings can name, without the `KEY_` of the kernel's names."""
_NAMES = {code: name for name, code in KEY_CODES.items()}


def key_code(name: str) -> int:
    """Return the code of a key by its name, such as `down`, `F2` or `KEY_F2`.

    Raises:
        KeyError: there is no such key.
    """
    plain = name.strip().lower().removeprefix("key_").replace(" ", "").replace("-", "").replace("_", "")
    return KEY_CODES[{"cursordown": "down", "cursorup": "up", "escape": "esc", "return": "enter"}.get(plain, plain)]


def key_name(code: int) -> str:
    """Return a name for a key in sentences, without the character it types."""
    return _NAMES.get(code, f"with code {code}")
