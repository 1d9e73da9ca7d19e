"""A new epoch: every event after a number under new numbers, at once or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import pytest
from tinydb.table import Document

from gateway.access.event import FIRST_PREV, Was, decode_event
from gateway.errors import JournalFull
from gateway.journal import epochs
from gateway.journal.epochs import READY, UNFINISHED
from gateway.journal.journal import Journal
from gateway.journal.tail import Tail
from gateway.journal.verify import verify
from tests.journal.journals import GATEWAY, assert_chained, fill, small, tap


def _raws(journal: Journal) -> list[bytes]:
    return [raw for _, raw in journal.after(0, 100_000)]


def test_a_new_epoch_holds_every_event_after_a_number_of_any_boot_with_its_first_number(tmp_path: Path) -> None:
    for count in (50, 30, 20):
        journal = small(tmp_path, keep_days=7)
        fill(journal, count)
        journal.tinydb.table("commands").upsert(Document({"number": count}, 1))
        old = journal.epoch
        if count != 20:
            journal.close()
    before = [decode_event(raw) for _, raw in journal.after(40, 100)]
    assert journal.begin_epoch(40) == 60
    assert journal.epoch != old
    assert (journal.acked, journal.head, journal.stats().waiting) == (0, 60, 60)
    after = [decode_event(raw) for raw in _raws(journal)]
    assert [event.seq for event in after] == list(range(1, 61))
    assert [event.was for event in after] == [Was(old, seq) for seq in range(41, 101)]
    assert [(event.person, event.boot, event.up) for event in after] == [
        (event.person, event.boot, event.up) for event in before
    ]
    assert after[0].prev == FIRST_PREV
    assert journal.append(tap(1, boot=3)).wait(5) == 61
    assert_chained(_raws(journal))
    epoch = journal.epoch
    journal.close()
    assert not verify(tmp_path).findings
    again = small(tmp_path, keep_days=7)
    assert (again.epoch, again.head, again.boot) == (epoch, 61, 4)
    assert again.tinydb.table("commands").get(doc_id=1) == {"number": 20}
    again.close()


def test_an_event_that_is_moved_twice_keeps_its_first_number(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 5)
    first = journal.epoch
    journal.begin_epoch(2)
    journal.begin_epoch(1)
    assert [decode_event(raw).was for raw in _raws(journal)] == [Was(first, 4), Was(first, 5)]
    journal.close()


def test_a_watermark_of_the_epoch_before_forgets_nothing_of_the_new_one(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 10)
    journal.acknowledge(5)
    journal.begin_epoch(5)
    journal.settle()
    assert (journal.acked, journal.head) == (0, 5)
    journal.close()


def test_other_bytes_under_a_number_are_never_taken_as_delivered(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 10)
    (link,) = journal.links_after(8)
    assert not journal.acknowledge(8, link="ab" * 16)
    assert journal.acked == 0
    assert journal.acknowledge(8, link=link)
    assert journal.acked == 8
    assert not journal.acknowledge(11, link=link)
    assert not journal.acknowledge(11)
    assert (journal.acked, journal.head) == (8, 10)
    journal.close()


def test_after_a_damaged_event_both_links_are_known(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 10)
    whole = journal.links_after(5)
    journal.close()
    path = next(tmp_path.glob("segment-*"))
    data = bytearray(path.read_bytes())
    place = data.index(b'"seq":5,')
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    journal = small(tmp_path)
    assert whole < journal.links_after(5)
    assert journal.acknowledge(5, link=next(iter(whole)))
    journal.close()


def test_a_full_disk_leaves_the_epoch_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = small(tmp_path)
    fill(journal, 10)
    before, epoch = _raws(journal), journal.epoch

    def full(*_args: object, **_options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Tail, "write", full)
        with pytest.raises(JournalFull):
            journal.begin_epoch(5)
    assert (journal.epoch, _raws(journal)) == (epoch, before)
    assert not (tmp_path / UNFINISHED).exists()
    assert journal.append(tap(1)).wait(5) == 11
    journal.close()


@pytest.mark.parametrize("at", range(14))
def test_a_power_cut_at_any_step_leaves_the_old_epoch_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    card = tmp_path / "card"
    for _ in range(2):
        journal = small(card, keep_days=7)
        fill(journal, 200)
        journal.close()
    steps = 0

    class PowerCut(BaseException): ...

    def counted(act: object) -> object:
        def step(*args: object, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps > at:
                raise PowerCut
            return act(*args, **options)  # type: ignore[operator]

        return step

    journal = small(card, keep_days=7)
    old, raws = journal.epoch, _raws(journal)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(Path, "unlink", counted(Path.unlink))
        patched.setattr(epochs.shutil, "rmtree", counted(shutil.rmtree))
        patched.setattr(os, "fdatasync", counted(os.fdatasync))
        with contextlib.suppress(PowerCut):
            epochs.write_again(journal.catalog, journal._state, journal._tail.limits, 100, journal._tail.last_number)
    left = tmp_path / "left"
    shutil.copytree(card, left)
    (left / "lock").unlink(missing_ok=True)
    after = Journal.open(left, GATEWAY, segment_bytes=64 << 10, keep_days=7)
    if after.epoch == old:
        assert _raws(after) == raws
    else:
        assert [decode_event(raw).was for raw in _raws(after)] == [Was(old, seq) for seq in range(101, 401)]
    assert not (left / READY).exists()
    assert not (left / UNFINISHED).exists()
    after.close()
