from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from gateway.journal import anchor
from gateway.journal.anchor import read_anchor
from gateway.journal.segments import DATA_START, list_segments, segment_path
from gateway.journal.verify import verify
from tests.journal.journals import fill, small, tap
from tests.journal.test_damage import frame_ends

TAPS = 250


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "journal"
    journal = small(folder)
    fill(journal, TAPS)
    journal.close()
    assert verify(folder).ok
    return folder


def cut_at(whole: Path, target: Path, offset: int) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(whole, target)
    path = segment_path(target, list_segments(target)[-1])
    path.write_bytes(path.read_bytes()[:offset])
    return target


def test_a_cut_at_every_record_boundary_of_the_last_segment_is_named(whole: Path, tmp_path: Path) -> None:
    ends = frame_ends(whole, list_segments(whole)[-1])
    first = ends[0][0]
    assert len(ends) > 20
    unseen = 0
    for place, (last, end) in enumerate([(first - 1, DATA_START), *ends[:-1]]):
        folder = cut_at(whole, tmp_path / "cut", end)
        found = [(item.kind, item.first, item.last) for item in verify(folder).findings]
        assert ("cut", last + 1, TAPS) in found, place
        assert ("missing", last + 1, TAPS) in found, place
        (folder / anchor.PLACE).unlink()
        unseen += verify(folder).ok
    # As it was: without an anchor such a journal looks whole.
    assert unseen == len(ends)


def test_a_removed_last_segment_and_a_journal_without_any_are_named(whole: Path, tmp_path: Path) -> None:
    folder = cut_at(whole, tmp_path / "cut", 0)
    numbers = list_segments(folder)
    segment_path(folder, numbers[-1]).unlink()
    (cut,) = [item for item in verify(folder).findings if item.kind == "cut"]
    assert cut.last == TAPS
    for number in numbers[:-1]:
        segment_path(folder, number).unlink()
    assert [(item.kind, item.last) for item in verify(folder).findings] == [("cut", TAPS)]


def test_after_a_cut_no_number_is_given_again_and_the_loss_stays_named(whole: Path, tmp_path: Path) -> None:
    ends = frame_ends(whole, list_segments(whole)[-1])
    folder = cut_at(whole, tmp_path / "cut", ends[9][1])
    journal = small(folder)
    assert journal.append(tap(boot=2)).wait(5) == TAPS + 1
    lost = [raw for seq, raw in journal.after(ends[9][0], 1000) if seq <= TAPS]
    assert len(lost) == TAPS - ends[9][0]
    assert all(b"event_lost" in raw for raw in lost)
    journal.close()
    kinds = [(item.kind, item.first, item.last) for item in verify(folder).findings if item.kind != "torn"]
    assert kinds == [("missing", ends[9][0] + 1, TAPS)]


@pytest.mark.parametrize("spoil", [b"", b"\xff" * 1024, b"00000000 {}".ljust(1024), bytes(1024)])
def test_a_spoiled_anchor_costs_nothing_but_itself(whole: Path, tmp_path: Path, spoil: bytes) -> None:
    folder = cut_at(whole, tmp_path / "cut", 1 << 30)
    (folder / anchor.PLACE).write_bytes(spoil)
    assert read_anchor(folder) is None
    assert verify(folder).ok
    journal = small(folder)
    assert journal.append(tap(boot=2)).wait(5) == TAPS + 1
    journal.close()
    anchored = read_anchor(folder)
    assert anchored is not None
    assert anchored.head == TAPS + 1


def test_an_anchor_of_another_journal_or_out_of_all_reason_is_not_believed(whole: Path, tmp_path: Path) -> None:
    folder = cut_at(whole, tmp_path / "cut", 1 << 30)
    mine = read_anchor(folder)
    assert mine is not None
    for epoch, head in (("00000000", TAPS + 5), (mine.epoch, TAPS + 10**9)):
        place = anchor.Anchor(folder)
        place.set(epoch, head, bytes(16))
        place.close()
        assert verify(folder).ok
        assert verify(folder).head == TAPS


def test_the_anchor_costs_little_beside_a_sync(tmp_path: Path) -> None:
    place = anchor.Anchor(tmp_path)
    place.set("00000000", 1, bytes(16))
    started = time.perf_counter()
    for head in range(1000):
        place.set("00000000", head, bytes(16))
    assert (time.perf_counter() - started) / 1000 < 0.001
    place.close()
