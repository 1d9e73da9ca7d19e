"""Replaces the card numbers in a recording by invented ones, consistently and with their check bytes.

Law of this file: a recording either comes out without any real number in it and plays as before, or is refused. Data
that could be part of a number is wiped; RC522 recordings with collisions or card memory in them are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.errors import ReaderOffline
from gateway.protocols.key_layouts import LAYOUTS
from gateway.protocols.wedge import WedgeParser
from gateway.readers.base import CardRead, ReaderEvent, Vitals, make_reader, parse_options
from gateway.readers.masking.frames import FRAME_MASKS
from gateway.readers.masking.library import LIBRARY_MASKS
from gateway.readers.masking.numbers import CannotMask, invented, search
from gateway.readers.masking.spi import mask_rc522
from gateway.readers.masking.text import TEXT_MASKS
from gateway.transports.trace import Record, Replay, ReplayDiverged, ReplayEnded

_MASKS = TEXT_MASKS | FRAME_MASKS | LIBRARY_MASKS
MASKED_DRIVERS = ("rc522", *_MASKS)

__all__ = ["MASKED_DRIVERS", "CannotMask", "mask", "play"]


def mask(records: Sequence[Record], uids: Iterable[bytes]) -> list[Record]:
    """Replace the card numbers in a recording.

    Args:
        uids: what the driver has read while it was made.

    Raises:
        CannotMask: part of a real number would remain, or the masked recording would not replay like the original.
    """
    driver, known = records[0][2], set(uids)
    if driver == "rc522":
        pairs = [(uid, invented(uid)) for uid in known]
        masked = mask_rc522(records, pairs)
    elif driver in _MASKS:
        options = parse_options(driver, records[0][3], lambda _key, _message: None)
        masked, found = _MASKS[driver](records, options)
        if search(_wires(masked), found | known):
            raise CannotMask("Part of a card number would remain in the recording, so it was not written.")
    else:
        raise CannotMask(f"Recordings of driver {driver!r} cannot be masked.")
    if _shape(records) != _shape(masked):
        raise CannotMask("The masked recording would not replay like the original; it was not written.")
    return masked


def _wires(records: Sequence[Record]) -> list[bytes]:
    settings = records[0][3]
    keys = WedgeParser(str(settings.get("layout", "us"))) if settings.get("layout", "us") in LAYOUTS else WedgeParser()
    reports = [record[3] for record in records if record[0] == "c"]
    data = [item["data"] for items in reports if isinstance(items, list) for item in items if "data" in item]
    return [
        b"".join(bytes.fromhex(record[1]) for record in records if record[0] == "r"),
        b"".join(bytes.fromhex(record[1]) for record in records if record[0] == "w"),
        b"".join(keys.feed(*event) for record in records if record[0] == "k" for event in record[1]),
        b"|".join(bytes.fromhex(item) for item in data),
        json.dumps(reports).encode(),
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
    """Return what must be the same in both: every event but for its number, and which of the numbers are one."""
    try:
        events, vitals = play(records)
    except ReplayDiverged as error:
        raise CannotMask(f"The recording cannot be played: {error}") from None
    numbers: list[object] = []
    # What it proposes hangs on the number that was refused.
    shape: list[object] = [replace(vitals, proposal="")]
    for event in events:
        summary: list[object] = [type(event), event.seen_ns, getattr(event, "reason", ""), getattr(event, "state", "")]
        if isinstance(event, CardRead):
            if event.number not in numbers:
                numbers.append(event.number)
            summary += [numbers.index(event.number), event.number.projection, len(event.number.value), event.card_type]
        shape.append(summary)
    return shape
