"""The settings that all readers of printed numbers share, and the judgement of one printed number.

Law of this file: a number is whole or refused. A form whose width is known is refused with another one; where the form
leaves it open, zeros in front prove that the reader fills up, and their width is learnt.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Any

from gateway.access.rules import Reason
from gateway.cards.encodings import DECIMAL_FORMS, UNPAD, check_encoding
from gateway.cards.identity import TECHNOLOGIES
from gateway.errors import BadCardNumber
from gateway.protocols.shapes import text_kind
from gateway.readers.base import CardRead, CardRefused
from gateway.readers.judge import judge_text
from gateway.readers.proposals import propose_encoding

ANY = "any"
_MOST_DIGITS = 40
# Different numbers that must agree on their width before it counts as the reader's own.
_PROOFS = 3


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Settings of readers that print their numbers.

    Attributes:
        encoding: how the reader prints a card number, a name or chain of cards.encodings.
        technology: of the cards: `iso14443a`, `125khz`, or one of `em4100`, `iso15693`, `iclass`, `felica`, `legic`,
            `other`; empty leaves it to the encoding. Numbers of a reader that is set to another technology than
            `iso14443a` are never taken for random or cut UIDs.
        digits: how many digits the reader always prints, such as 10 or [8, 14]; a number with fewer or more is
            refused. Left out, it is the width of the form where that has one (8h10d: 10, 6h8d and 2h3d-4h5d and w26:
            8, w34: 10), else it is learnt from numbers with zeros in front; "any" takes every width.
        strip: true cuts zeros in front with which the reader fills up to a fixed width (as the encoding `unpad|`).
        prefix: text before the number; a line without it is dropped.
        suffix: text after the number.
        pattern: regular expression for the text between prefix and suffix; its first group is the number.
    """

    encoding: str = "hex-msb"
    technology: str = ""
    digits: Any = None
    strip: bool = False
    prefix: str = ""
    suffix: str = ""
    pattern: str = ""

    def text_problems(self) -> list[str]:
        """Return what is wrong with these settings, as `key: message`."""
        problems = []
        try:
            check_encoding(self.whole_encoding)
        except BadCardNumber as error:
            problems.append(f"encoding: {error}")
        if self.technology and self.technology not in TECHNOLOGIES:
            problems.append(f"technology: must be one of {', '.join(TECHNOLOGIES)}")
        lengths = self.lengths
        if self.digits not in (None, ANY) and not lengths:
            problems.append(f'digits: must be a number from 1 to {_MOST_DIGITS}, a list of such numbers, or "{ANY}"')
        elif self.digits is None and self.encoding.rpartition("|")[2] == "other":
            problems.append("digits: must be set for the encoding other, whose numbers may have any length")
        try:
            re.compile(self.pattern)
        except re.error as error:
            problems.append(f"pattern: is not a regular expression ({error})")
        return problems

    @property
    def whole_encoding(self) -> str:
        return f"unpad|{self.encoding}" if self.strip else self.encoding

    @property
    def lengths(self) -> frozenset[int]:
        """Return the numbers of digits that `digits` names; empty for none or for what cannot be one."""
        named = self.digits if isinstance(self.digits, list) else [self.digits]
        if all(type(item) is int and 1 <= item <= _MOST_DIGITS for item in named):
            return frozenset(named)
        return frozenset()


class TextForm:
    """Judges the numbers that one reader prints."""

    def __init__(self, options: TextOptions) -> None:
        self._encoding, self._technology = options.whole_encoding, options.technology
        names = [name for name in self._encoding.split("|") if name != UNPAD]
        self._is_decimal = names[0] in DECIMAL_FORMS
        fixed = DECIMAL_FORMS.get(names[0], 0)
        self._lengths = options.lengths or (frozenset({fixed}) if fixed and options.digits is None else frozenset())
        learns = self._is_decimal and not self._lengths and options.digits is None
        self._width = _LearntWidth() if learns else None

    def judge(self, reader: str, text: str, seen_ns: int) -> CardRead | CardRefused:
        """Judge one number as the reader printed it."""
        letters = string.digits if self._is_decimal else string.hexdigits
        plain = text.strip().removeprefix("0x").removeprefix("0X") if not self._is_decimal else text
        count = sum(letter in letters for letter in plain)
        expected = self._lengths or (self._width.expected(text) if self._width else frozenset())
        if expected and count not in expected:
            known = " or ".join(map(str, sorted(expected)))
            detail = (
                f"This reader prints {known} digits and this number has {count}: part of it is missing, or it is of "
                'another card; where both are right, list them in digits, or set digits = "any".'
            )
            return CardRefused(reader, Reason.CARD_FORMAT, detail, seen_ns)
        event = judge_text(reader, text, self._encoding, seen_ns, technology=self._technology)
        if isinstance(event, CardRefused) and event.reason == Reason.CARD_FORMAT:
            proposal = propose_encoding(text)
            detail = f"{event.detail} It came as {text_kind(text)}" + (f": {proposal}." if proposal else ".")
            return CardRefused(reader, event.reason, detail, seen_ns)
        return event


class _LearntWidth:
    """The width to which a reader fills up with zeros, once several different numbers have shown it."""

    def __init__(self) -> None:
        self._width = 0
        self._candidate = 0
        self._proofs: set[int] = set()

    def expected(self, text: str) -> frozenset[int]:
        """Return the widths that count as whole, none before one is learnt."""
        plain = text.strip()
        if plain.startswith("0") and plain.isdecimal():
            if len(plain) != self._candidate:
                self._candidate, self._proofs = len(plain), set()
            # What is kept of a number is of no use without it.
            self._proofs.add(hash(plain))
            if len(self._proofs) >= _PROOFS:
                self._width, self._proofs = self._candidate, set()
        return frozenset({self._width}) if self._width else frozenset()
