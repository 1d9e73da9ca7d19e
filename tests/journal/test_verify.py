from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal.catalog import Catalog
from gateway.journal.frames import Frame, FrameKind, pack_frame, scan
from gateway.journal.segments import DATA_START, segment_path
from gateway.journal.verify import Finding, verify
from tests.journal.journals import fill, small, tap

Frames = list[tuple[int, bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = small(tmp_path)
    fill(journal, 400)
    journal.acknowledge(100)
    journal.close()
    return tmp_path


def rewrite(folder: Path, segment: int, change: Callable[[Frames], Frames]) -> None:
    """Do what somebody with the software and the card in hand could do: rewrite a segment with good checksums."""
    catalog = Catalog(folder)
    catalog.load()
    header = next(entry.header for entry in catalog.entries if entry.number == segment)
    path = segment_path(folder, segment)
    data = path.read_bytes()
    frames = [
        (frame.number, data[frame.offset + 20 : frame.end])
        for frame in scan(data, header.seed, DATA_START)
        if isinstance(frame, Frame) and frame.kind is FrameKind.EVENT
    ]
    packed = b"".join(pack_frame(header.seed, FrameKind.EVENT, number, raw) for number, raw in change(frames))
    path.write_bytes(data[:DATA_START] + packed)


def kinds(findings: list[Finding]) -> list[tuple[str, int, int]]:
    return [(finding.kind, finding.first, finding.last) for finding in findings]


def test_a_whole_journal_has_no_findings(folder: Path) -> None:
    report = verify(folder)
    assert report.ok
    assert (report.first, report.head, report.acked, report.events) == (1, 400, 100, 400)


def test_a_running_gateway_s_journal_can_be_verified(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 300)
    assert verify(tmp_path).ok
    journal.append(tap()).wait(5)
    assert verify(tmp_path).head == 301
    journal.close()


def test_an_edited_event_is_named_though_its_checksum_is_good(folder: Path) -> None:
    rewrite(folder, 1, lambda frames: [(n, raw.replace(b"granted", b"denied") if n == 7 else raw) for n, raw in frames])
    assert kinds(verify(folder).findings) == [("chain", 7, 8)]


def test_a_dropped_event_is_named(folder: Path) -> None:
    rewrite(folder, 1, lambda frames: [frame for frame in frames if frame[0] not in {7, 8}])
    findings = verify(folder).findings
    assert ("missing", 7, 8) in kinds(findings)
    assert "the hub has them" in next(finding.text for finding in findings if finding.kind == "missing")


def test_a_dropped_and_renumbered_event_is_named(folder: Path) -> None:
    def drop(frames: Frames) -> Frames:
        return [(n if n < 7 else n - 1, raw) for n, raw in frames if n != 7]

    rewrite(folder, 1, drop)
    found = kinds(verify(folder).findings)
    assert ("chain", 6, 7) in found
    assert any(kind == "order" for kind, _, _ in found)


def test_a_doubled_event_is_named(folder: Path) -> None:
    rewrite(folder, 1, lambda frames: [*frames[:10], frames[9], *frames[10:]])
    assert ("order", 10, 10) in kinds(verify(folder).findings)


def test_two_events_in_another_order_are_named(folder: Path) -> None:
    def swap(frames: Frames) -> Frames:
        frames[20], frames[21] = frames[21], frames[20]
        return frames

    rewrite(folder, 1, swap)
    assert ("order", 21, 22) in kinds(verify(folder).findings)


def test_an_event_of_another_gateway_is_named(folder: Path) -> None:
    rewrite(folder, 1, lambda frames: [(n, re.sub(rb'"gw-canteen"', b'"gw-library"', raw)) for n, raw in frames[:3]])
    assert ("foreign", 1, 1) in kinds(verify(folder).findings)


def test_a_removed_segment_is_named_with_its_exact_events(folder: Path) -> None:
    catalog = Catalog(folder)
    catalog.load()
    first, last = catalog.entries[1].header.first_seq, catalog.entries[2].header.first_seq - 1
    segment_path(folder, catalog.entries[1].number).unlink()
    assert ("missing", first, last) in kinds(verify(folder).findings)


def test_a_removed_oldest_segment_is_named_from_the_watermark_on(folder: Path) -> None:
    catalog = Catalog(folder)
    catalog.load()
    segment_path(folder, catalog.entries[0].number).unlink()
    assert ("missing", 101, catalog.entries[1].header.first_seq - 1) in kinds(verify(folder).findings)


def test_a_flipped_bit_costs_one_event_and_names_it(folder: Path) -> None:
    path = segment_path(folder, 1)
    data = bytearray(path.read_bytes())
    data[5000] ^= 4
    path.write_bytes(bytes(data))
    found = kinds(verify(folder).findings)
    assert [kind for kind, _, _ in found] == ["damage", "missing"]
    assert found[1][1] == found[1][2]
