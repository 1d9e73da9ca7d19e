"""A field fault becomes a file: recorded at the wire, masked, and run through the real driver again."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from gateway.errors import ReaderOffline
from gateway.protocols.stx_etx import encode
from gateway.readers import masking, rc522, serial_line, stx_etx
from gateway.readers.base import CardRead, Reader, ReaderEvent
from gateway.readers.masking import CannotMask, mask
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
    drawn = iter([bytes.fromhex("A1B288D4E5F7"), bytes.fromhex("A1B2C3D4E5F7")])
    monkeypatch.setattr(masking.secrets, "token_bytes", lambda _count: next(drawn))
    assert masking.invented(SEVEN) == bytes.fromhex("04A1B2C3D4E5F7")


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


def test_a_serial_line_with_an_unplugged_cable_replays_and_is_masked() -> None:
    wires = SimulatedTransports()
    port = "/dev/ttyS0"
    out = io.StringIO()
    reader = serial_line.make("door", port, serial_line.Options(), Recorder(wires, out, "serial-line", {}))
    line = wires.line(port)
    reader.open()
    whole = line.line(SEVEN)
    events = []
    for piece in (whole[:5], whole[5:], b"\xff\x00", line.line(FOUR)):
        line.send(piece)
        events += poll_for(reader, 0.07)
    line.unplug()
    with pytest.raises(ReaderOffline):
        poll_for(reader, 1.0)
    wires.close()
    records = [json.loads(text) for text in out.getvalue().splitlines()]
    masked = mask(records, [SEVEN, FOUR])
    assert SEVEN.hex().upper().encode().hex() not in json.dumps(masked)
    played = Replay(masked)
    again = serial_line.make("door", port, serial_line.Options(), played)
    again.open()
    replayed: list[ReaderEvent] = []
    with pytest.raises(ReaderOffline):
        poll_for_ever(again, replayed)
    assert [len(number) for number in numbers(replayed)] == [len(number) for number in numbers(events)]
    assert again.vitals.counters == reader.vitals.counters


def test_a_card_that_was_not_read_keeps_the_recording_from_being_masked(tmp_path: Path) -> None:
    path, _ = record_rc522(tmp_path, FOUR, OTHER)
    with pytest.raises(CannotMask, match="was not read"):
        mask(load(path), [FOUR])


def record_tags(*pieces: bytes) -> tuple[list, list[ReaderEvent]]:
    wires = SimulatedTransports()
    port = "/dev/ttyS0"
    out = io.StringIO()
    reader = stx_etx.make("gate", port, stx_etx.Options(), Recorder(wires, out, "stx-etx", {}))
    line = wires.line(port)
    reader.open()
    events: list[ReaderEvent] = []
    for piece in pieces:
        line.send(piece)
        events += poll_for(reader, 0.03)
    line.unplug()
    with pytest.raises(ReaderOffline):
        poll_for(reader, 1.0)
    wires.close()
    return [json.loads(text) for text in out.getvalue().splitlines()], events


def test_a_recording_of_125_khz_tags_is_masked_with_its_checksums_and_replays_to_as_many_taps() -> None:
    whole = encode(0x1A, FOUR)
    records, events = record_tags(whole[:6], whole[6:], encode(0x00, OTHER).lower())
    assert numbers(events) == [FOUR, OTHER]
    masked = mask(records, numbers(events))
    wire = b"".join(bytes.fromhex(record[1]) for record in masked if record[0] == "r").upper()
    assert FOUR.hex().upper().encode() not in wire
    assert OTHER.hex().upper().encode() not in wire
    again = stx_etx.make("gate", "/dev/ttyS0", stx_etx.Options(), Replay(masked))
    again.open()
    replayed: list[ReaderEvent] = []
    with pytest.raises(ReaderOffline):
        poll_for_ever(again, replayed)
    assert len(numbers(replayed)) == 2
    assert not set(numbers(replayed)) & {FOUR, OTHER}
    assert [event.seen_ns for event in replayed] == [event.seen_ns for event in events]


@pytest.mark.parametrize("stranger", [encode(0x1A, OTHER), encode(0x1A, OTHER)[:9], encode(0x1A, FOUR)[1:]])
def test_a_tag_that_was_not_read_whole_keeps_the_recording_from_being_masked(stranger: bytes) -> None:
    records, _ = record_tags(encode(0x1A, FOUR), stranger)
    with pytest.raises(CannotMask):
        mask(records, [FOUR])
