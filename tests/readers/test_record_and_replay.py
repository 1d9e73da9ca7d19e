"""A field fault of an RC522 becomes a file: recorded, masked, and run through the real driver again."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from gateway.readers import masking
from gateway.readers.base import CardRead, Reader, ReaderEvent
from gateway.readers.masking import CannotMask, mask
from gateway.readers.rc522 import driver as rc522
from gateway.simulator import iso14443_cards as cards
from gateway.simulator.chips import SimulatedTransports
from gateway.transports.trace import Recorder, Replay, ReplayDiverged, ReplayEnded, load
from tests.readers.contract import FOUR, OTHER, SEVEN

PORT = "/dev/spidev0.0"


def poll_for(reader: Reader, seconds: float) -> list[ReaderEvent]:
    events: list[ReaderEvent] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        events += reader.poll()
        time.sleep(reader.pause_seconds)
    return events


def poll_for_ever(reader: Reader, events: list[ReaderEvent]) -> None:
    while True:
        events += reader.poll()


def record_rc522(tmp_path: Path, *uids: bytes, together: bool = False) -> tuple[Path, list[ReaderEvent]]:
    wires = SimulatedTransports()
    out = io.StringIO()
    reader = rc522.make("lane-1", PORT, rc522.Options(), Recorder(wires, out, "rc522", {}))
    reader.open()
    events = poll_for(reader, 0.02)
    for uid in uids:
        wires.field(PORT).enter(cards.classic_1k(uid) if len(uid) == 4 else cards.ntag(uid))
        if together:
            continue
        events += poll_for(reader, 0.05)
        wires.field(PORT).leave()
        events += poll_for(reader, 0.12)
    wires.chip(PORT).power_cycle()  # a brown-out, and the repair in the same recording
    events += poll_for(reader, 0.1)
    path = tmp_path / "lane-1.jsonl"
    path.write_text(out.getvalue())
    return path, events


def replay(records: list) -> list[ReaderEvent]:
    wires = Replay(records)
    reader = rc522.make("lane-1", PORT, rc522.Options(**wires.options), wires)
    events: list[ReaderEvent] = []
    reader.open()
    with pytest.raises(ReplayEnded):
        poll_for_ever(reader, events)
    return events


def numbers(events: list[ReaderEvent]) -> list[bytes]:
    return [event.number.value for event in events if isinstance(event, CardRead)]


def test_a_recording_replays_to_the_same_events_at_the_same_times(tmp_path: Path) -> None:
    path, events = record_rc522(tmp_path, FOUR, SEVEN, OTHER)
    assert numbers(events) == [FOUR, SEVEN, OTHER]
    assert replay(load(path)) == events


def test_a_masked_recording_has_no_card_number_and_still_replays_to_as_many_taps(tmp_path: Path) -> None:
    path, events = record_rc522(tmp_path, FOUR, SEVEN)
    masked = mask(load(path), numbers(events))
    text = json.dumps(masked)
    assert FOUR.hex() not in text
    assert SEVEN[:3].hex() not in text
    assert SEVEN[3:].hex() not in text
    invented = numbers(replay(masked))
    assert [len(number) for number in invented] == [4, 7]
    assert invented != [FOUR, SEVEN]


def test_an_invented_number_is_one_that_a_card_could_have(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes.fromhex("5B6C88182838"), bytes.fromhex("5B6C7D182838")])
    monkeypatch.setattr(masking.numbers.secrets, "token_bytes", lambda _count: next(drawn))
    assert masking.numbers.invented(SEVEN) == bytes.fromhex("045B6C7D182838")


def test_a_number_that_was_not_named_keeps_the_recording_from_being_shared_as_masked(tmp_path: Path) -> None:
    path, _ = record_rc522(tmp_path, FOUR, bytes.fromhex("DEADBEE1"), together=True)
    with pytest.raises(CannotMask):
        mask(load(path), [FOUR])


def test_a_driver_that_does_something_else_is_told_where(tmp_path: Path) -> None:
    path, _ = record_rc522(tmp_path, FOUR)
    records = load(path)
    del records[20]
    with pytest.raises(ReplayDiverged):
        replay(records)


def test_a_card_that_was_not_read_keeps_the_recording_from_being_masked(tmp_path: Path) -> None:
    path, _ = record_rc522(tmp_path, FOUR, OTHER)
    with pytest.raises(CannotMask, match="was not read"):
        mask(load(path), [FOUR])
