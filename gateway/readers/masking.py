"""Card numbers out of a recording: each is replaced by an invented one, consistently and with its check bytes.

Law of this file: a recording either comes out without any real number in it and plays as it did, or is refused. What
is not a whole number is wiped where it could be part of one; RC522 recordings with collisions or card memory in them
are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from gateway.cards.iso14443 import SEL_CODES, bcc, cascade_levels
from gateway.errors import ReaderOffline
from gateway.protocols.mfrc522 import Answer, Register, select_bytes, write
from gateway.protocols.wedge import WedgeParser
from gateway.readers.base import CardRead, ReaderEvent, Vitals, make_reader, parse_options
from gateway.readers.masking_frames import FRAME_MASKS
from gateway.readers.masking_numbers import CannotMask, invented, search
from gateway.readers.masking_text import TEXT_MASKS
from gateway.readers.masking_told import TOLD_MASKS
from gateway.transports.trace import Record, Replay, ReplayDiverged, ReplayEnded

_MASKS = TEXT_MASKS | FRAME_MASKS | TOLD_MASKS
MASKED_DRIVERS = ("rc522", *_MASKS)

__all__ = ["MASKED_DRIVERS", "CannotMask", "mask", "play"]


def mask(records: Sequence[Record], uids: Iterable[bytes]) -> list[Record]:
    """Replace the card numbers in a recording.

    Args:
        uids: what the driver has read while it was made.

    Raises:
        CannotMask: part of a real number would remain, or the masked recording would not play as the original does.
    """
    driver, known = records[0][2], set(uids)
    if driver == "rc522":
        pairs = [(uid, invented(uid)) for uid in known]
        masked = _mask_rc522(records, pairs)
    elif driver in _MASKS:
        options = parse_options(driver, records[0][3], lambda _key, _message: None)
        masked, found = _MASKS[driver](records, options)
        if search(_wires(masked), found | known):
            raise CannotMask("Part of a card number would remain in the recording; it was not written.")
    else:
        raise CannotMask(f"Recordings of driver {driver!r} cannot be masked.")
    if _shape(records) != _shape(masked):
        raise CannotMask("The masked recording would not play as the original does; it was not written.")
    return masked


def _wires(records: Sequence[Record]) -> list[bytes]:
    keys = WedgeParser()
    told = [record[3] for record in records if record[0] == "c"]
    data = [item["data"] for items in told if isinstance(items, list) for item in items if "data" in item]
    return [
        b"".join(bytes.fromhex(record[1]) for record in records if record[0] == "r"),
        b"".join(bytes.fromhex(record[1]) for record in records if record[0] == "w"),
        b"".join(keys.feed(*event) for record in records if record[0] == "k" for event in record[1]),
        b"|".join(bytes.fromhex(item) for item in data),
        json.dumps(told).encode(),
    ]


def play(records: Sequence[Record]) -> tuple[list[ReaderEvent], Vitals]:
    """Run the driver on a recording to its end; the vitals' detail is empty unless the reader was lost in it.

    Raises:
        ReplayDiverged: the driver takes other turns than when this was recorded.
    """
    wires = Replay(records)
    options = parse_options(wires.driver, wires.options, lambda _key, _message: None)
    reader = make_reader(wires.driver, "recording", "recording", options, wires)
    events: list[ReaderEvent] = []
    try:
        reader.open()
        while True:
            events += reader.poll()
    except ReplayEnded:
        reader.vitals.detail = ""
    except ReaderOffline:
        # Kept in the vitals' detail.
        pass
    return events, reader.vitals


def _shape(records: Sequence[Record]) -> list[object]:
    """Give what must be the same in both: every event but for its number, and which of the numbers are one."""
    try:
        events, vitals = play(records)
    except ReplayDiverged as error:
        raise CannotMask(f"The recording cannot be played: {error}") from None
    numbers: list[object] = []
    shape: list[object] = [vitals]
    for event in events:
        said: list[object] = [type(event), event.seen_ns, getattr(event, "reason", ""), getattr(event, "state", "")]
        if isinstance(event, CardRead):
            if event.number not in numbers:
                numbers.append(event.number)
            said += [numbers.index(event.number), event.number.projection, len(event.number.value), event.card_type]
        shape.append(said)
    return shape


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


def _verify(records: Sequence[Record], forbidden: Sequence[bytes]) -> None:
    text = "".join("".join(side) if isinstance(side, list) else str(side) for record in records for side in record[1:])
    if any(part.hex() in text.lower() for part in forbidden):
        raise CannotMask("Part of a card number would remain in the recording; it was not written.")
