"""The attendance codes of England, by what they mean for a register."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Meaning(enum.StrEnum):
    """What a code says."""

    PRESENT = "present"
    ELSEWHERE = "elsewhere"
    AUTHORISED = "authorised"
    UNAUTHORISED = "unauthorised"
    VOID = "void"
    UNKNOWN = "unknown"


_LETTERS = {
    Meaning.PRESENT: "/ \\ L",
    Meaning.ELSEWHERE: "K V P W B D",
    Meaning.AUTHORISED: "C C1 C2 E I J1 M R S T",
    Meaning.UNAUTHORISED: "G N O U",
    Meaning.VOID: "Q X Y1 Y2 Y3 Y4 Y5 Y6 Y7 Z #",
}
ENGLAND: Mapping[str, Meaning] = {code: meaning for meaning, codes in _LETTERS.items() for code in codes.split()}
# A register that holds one of these says nothing yet: N is an absence whose reason nobody has given.
EMPTY = frozenset({"", "-", "N"})
# Whoever has one of these is in the building; U is late after the register closed.
IN_THE_BUILDING = frozenset({"/", "\\", "L", "U"})
LATE, LATE_AFTER_CLOSING = "L", "U"


def meaning_of(code: str) -> Meaning:
    """Return what a code of a register says, UNKNOWN for one that is not of England."""
    return ENGLAND.get(code, Meaning.UNKNOWN)
