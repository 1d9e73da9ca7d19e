"""Card numbers out of a recording: each is replaced by an invented one, consistently and with its check bytes.

Law of this file: a recording either comes out without any real number in it or is refused. What is replaced are whole
UIDs as RC522 frames, serial lines and 125 kHz frames carry them; recordings with collisions or with card memory in them
are refused.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence

from gateway.cards.encodings import encode
from gateway.cards.iso14443 import CASCADE_TAG, SEL_CODES, bcc, cascade_levels
from gateway.cards.uid import Uid
from gateway.errors import BadCardNumber, RefusedError
from gateway.protocols import stx_etx
from gateway.protocols.mfrc522 import Answer, Register, select_bytes, write
from gateway.transports.trace import Record

MASKED_DRIVERS = ("rc522", "serial-line", "stx-etx")
_TAG = re.compile(rb"\x02([0-9A-Fa-f]{2})([0-9A-Fa-f]{8})[0-9A-Fa-f]{2}")
_NUMBER_LIKE = re.compile(rb"[0-9A-Fa-f]{5,}")
_KEEP = 1  # the first byte tells the maker, or that the number is random


class CannotMask(RefusedError):
    """This recording holds card numbers in a form that cannot be replaced; record again with one card at a time."""


def invented(uid: bytes) -> bytes:
    """Give another UID of the same length and maker, whose last cascade level does not begin with the cascade tag."""
    while True:
        made = uid[:_KEEP] + secrets.token_bytes(len(uid) - _KEEP)
        if made != uid and cascade_levels(made)[-1][0] != CASCADE_TAG:
            return made


def mask(records: Sequence[Record], uids: Iterable[bytes]) -> list[Record]:
    """Replace these UIDs in a recording.

    Raises:
        CannotMask: part of a real UID would remain.
    """
    pairs = [(uid, invented(uid)) for uid in dict.fromkeys(uids)]
    if records[0][2] == "rc522":
        return _mask_rc522(records, pairs)
    if records[0][2] == "serial-line":
        return _mask_lines(records, pairs)
    if records[0][2] == "stx-etx":
        return _mask_tags(records, pairs)
    raise CannotMask(f"Recordings of driver {records[0][2]!r} cannot be masked.")


def _mask_rc522(records: Sequence[Record], pairs: Sequence[tuple[bytes, bytes]]) -> list[Record]:
    swaps: dict[str, str] = {}
    for uid, fake in pairs:
        for level, (real, made) in enumerate(zip(cascade_levels(uid), cascade_levels(fake), strict=True)):
            swaps[select_bytes(level, real).hex()] = select_bytes(level, made).hex()
            swaps[(real + bytes([bcc(real)])).hex()] = (made + bytes([bcc(made)])).hex()
    # SELECT with its CRC first, then the bare answer to anticollision.
    order = sorted(swaps, key=len, reverse=True)
    fifo = write(Register.FIFO_DATA).hex()
    known = {part for uid, _ in pairs for part in cascade_levels(uid)}
    masked = []
    for record in records:
        if record[0] != "s":
            masked.append(record)
            continue
        _refuse_other_frames(record, fifo)
        _refuse_strangers(record, fifo, known)
        sides = [[_swap(text, order, swaps) for text in side] for side in record[1:]]
        masked.append(["s", *sides])
    _verify(masked, [part for uid, _ in pairs for part in cascade_levels(uid)])
    return masked


def _refuse_other_frames(record: Record, fifo: str) -> None:
    for text in record[1]:
        if not text.startswith(fifo) or len(text) < 6:
            continue
        command, second = bytes.fromhex(text[2:6])
        if command in SEL_CODES and second not in {0x20, 0x70}:
            raise CannotMask("The recording holds a collision of two cards; record again with one at a time.")
        if command in {0x60, 0x61, 0x30}:
            raise CannotMask("The recording holds keys or memory of a card; record with credential = 'uid'.")


def _refuse_strangers(record: Record, fifo: str, known: set[bytes]) -> None:
    # An anticollision frame whose answer is of no card that was read: its number would stay in the file.
    asked = any(text.startswith(fifo) and bytes.fromhex(text[2:6])[1:] == b"\x20" for text in record[1])
    if not asked or not record[2]:
        return
    answer = Answer.parse(bytes.fromhex(record[2][-1]))
    if answer.data and answer.data[:4] not in known:
        raise CannotMask("The recording holds a card that was not read; its number cannot be replaced.")


def _swap(text: str, order: Sequence[str], swaps: dict[str, str]) -> str:
    for real in order:
        place = text.find(real)
        if place >= 0 and place % 2 == 0:
            return text[:place] + swaps[real] + text[place + len(real) :]
    return text


def _mask_lines(records: Sequence[Record], pairs: Sequence[tuple[bytes, bytes]]) -> list[Record]:
    encoding = records[0][3].get("encoding", "hex-msb")
    fakes: set[bytes] = set()
    stream = b"".join(bytes.fromhex(record[1]) for record in records if record[0] == "r")
    for uid, fake in pairs:
        try:
            real = encode(Uid(uid), encoding).encode()
            made = encode(Uid(fake), encoding).encode()
        except BadCardNumber:
            raise CannotMask(f"Numbers in the form {encoding!r} cannot be replaced.") from None
        for known in (real, real.lower()):
            # The lengths stay, so the pieces in which the bytes arrived stay too.
            stream = stream.replace(known, made.rjust(len(known), b"0")[-len(known) :])
        fakes.add(made.rjust(len(real), b"0")[-len(real) :])
    masked = _cut_again(records, stream, fakes)
    _verify(masked, [encode(Uid(uid), encoding).encode() for uid, _ in pairs])
    return masked


def _mask_tags(records: Sequence[Record], pairs: Sequence[tuple[bytes, bytes]]) -> list[Record]:
    made_of = dict(pairs)
    fakes: set[bytes] = set()

    def swap(found: re.Match[bytes]) -> bytes:
        number = bytes.fromhex(found[2].decode("ascii"))
        if number not in made_of:
            return found[0]  # nobody read it; refused below
        frame = stx_etx.encode(int(found[1], 16), made_of[number])[: len(found[0])]
        fakes.add(frame[1:])
        return frame

    stream = b"".join(bytes.fromhex(record[1]) for record in records if record[0] == "r")
    masked = _cut_again(records, _TAG.sub(swap, stream), fakes)
    _verify(masked, [form.encode() for uid in made_of for form in (uid.hex(), uid.hex().upper())])
    return masked


def _cut_again(records: Sequence[Record], stream: bytes, fakes: set[bytes]) -> list[Record]:
    """Put the bytes back in the pieces in which they arrived; refuses what looks like any other number."""
    if any(found not in fakes for found in _NUMBER_LIKE.findall(stream)):
        raise CannotMask("The recording holds a number that was not read; it cannot be replaced.")
    masked = []
    for record in records:
        if record[0] != "r":
            masked.append(record)
            continue
        length = len(record[1]) // 2
        masked.append(["r", stream[:length].hex()])
        stream = stream[length:]
    return masked


def _verify(records: Sequence[Record], forbidden: Sequence[bytes]) -> None:
    text = "".join("".join(side) if isinstance(side, list) else str(side) for record in records for side in record[1:])
    if any(part.hex() in text.lower() for part in forbidden):
        raise CannotMask("Part of a card number would remain in the recording; it was not written.")
