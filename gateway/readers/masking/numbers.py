"""Invented numbers for recordings, and the search for what must not be left in one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable

from gateway.cards.iso14443 import CASCADE_TAG, cascade_levels
from gateway.cards.uid import RANDOM_ID
from gateway.errors import RefusedError

_TRIES = 20_000
_SEPARATORS = re.compile(rb"[\s:\-._]")
# Fewer bytes in a row than these are found by chance.
_TELLING = 3
# UIDs whose last cascade level must not begin with the cascade tag (ISO/IEC 14443-3 section 6.5.4).
_CASCADED = (7, 10)


class CannotMask(RefusedError):
    """This recording holds card numbers in a form that cannot be replaced; record again with one card at a time."""


def invented(real: bytes, stuffed: int | None = None) -> bytes:
    """Return another number of the same length and kind, without any three bytes in a row of the real one.

    Of a longer UID the first byte stays, which tells the maker; of four bytes only what makes a number random or cut.

    Args:
        stuffed: a byte value that the new number must hold as often as the real one; None when that does not matter.
    """
    keep = 1 if len(real) > 4 or real[:1] in {bytes([RANDOM_ID]), bytes([CASCADE_TAG])} else 0
    parts = telling_parts(real)
    while True:
        body = bytearray(secrets.token_bytes(len(real) - keep))
        if stuffed is not None:
            for place in secrets.SystemRandom().sample(range(len(body)), real[keep:].count(stuffed)):
                body[place] = stuffed
        made = real[:keep] + bytes(body)
        if made[:1] != real[:1] and made[:1] in {bytes([RANDOM_ID]), bytes([CASCADE_TAG])}:
            continue
        if len(real) in _CASCADED and cascade_levels(made)[-1][0] == CASCADE_TAG:
            continue
        if made != real and not any(part in made for part in parts):
            return made


def telling_parts(real: bytes) -> set[bytes]:
    """Return every three bytes in a row of a number, in both orders."""
    size = min(_TELLING, len(real))
    both = (real, real[::-1])
    parts = {order[place : place + size] for order in both for place in range(len(order) - size + 1)}
    # A run of one byte is no sign of anybody's card.
    return {part for part in parts if len(set(part)) > 1}


class Fakes:
    """Maps each real number of a recording to an invented one."""

    def __init__(self, stuffed: int | None = None) -> None:
        self._stuffed = stuffed
        self._made: dict[bytes, bytes] = {}

    @property
    def real(self) -> tuple[bytes, ...]:
        return tuple(self._made)

    def of(self, real: bytes, fits: Callable[[bytes], bool] = lambda _made: True) -> bytes:
        """Return the number that replaces a real one.

        Raises:
            CannotMask: no invented number fits.
        """
        made = self._made.get(real)
        if made is not None:
            return made
        for _ in range(_TRIES):
            made = invented(real, self._stuffed)
            if fits(made):
                self._made[real] = made
                return made
        raise CannotMask("No invented number fits in place of a real one; record again with another card.")


def search(wires: Iterable[bytes], numbers: Iterable[bytes]) -> bool:
    """Return whether part of a number is left: as bytes, as hex or decimal digits, in either order."""
    plain = list(wires)
    streams = [form for wire in plain for form in (wire, wire.upper(), _SEPARATORS.sub(b"", wire.upper()))]
    for number in numbers:
        forms = telling_parts(number)
        forms |= {part.hex().upper().encode() for part in forms}
        for order in (number, number[::-1]):
            whole = int.from_bytes(order, "big")
            forms.add(str(whole).encode().zfill(8))
            forms.add(str(whole & 0xFFFFFF).encode().zfill(8))
        # The digits of digits, which some readers send.
        forms |= {form.hex().upper().encode() for form in forms}
        if any(form in stream for form in forms for stream in streams):
            return True
    return False
