from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.access.event import Was, decode_event
from gateway.errors import JournalFull
from gateway.journal import unsaved as room
from gateway.journal.notes import Note
from gateway.journal.unsaved import Unsaved, runtime_folder
from tests.journal.journals import small, tap, until_full

WHY = 'The disk "says" no.'


def started(folder: Path, runtime: Path | None = None) -> Unsaved:
    made = Unsaved(folder, runtime)
    made.prepare()
    return made


def test_what_was_not_saved_is_told_by_the_next_start_and_by_one_alone(tmp_path: Path) -> None:
    first = started(tmp_path)
    for number in range(31):
        first.take(tap(number), WHY)
    first.write()
    first.close()
    second = started(tmp_path)
    assert (second.before.count, second.before.why) == (31, WHY.replace('"', "'"))
    second.take(tap(), WHY)
    second.write()
    second.close()
    third = started(tmp_path)
    assert third.before.count == 32
    third.told_before()
    third.write()
    third.close()
    assert started(tmp_path).before.count == 0


def test_a_disk_that_turns_read_only_leaves_the_count_in_memory_of_the_machine(tmp_path: Path) -> None:
    folder, runtime = tmp_path / "journal", tmp_path / "run"
    folder.mkdir()
    runtime.mkdir()
    first = started(folder, runtime)
    first.take(tap(), WHY)
    first.write()
    # As a read-only file system does it: what stands there can be read and not written any more.
    stuck = (folder / room.PLACE).read_bytes()
    (folder / room.PLACE).unlink()
    (folder / room.PLACE).mkdir()
    for number in range(30):
        first.take(tap(number), WHY)
    first.write()
    first.close()
    (folder / room.PLACE).rmdir()
    (folder / room.PLACE).write_bytes(stuck)
    second = started(folder, runtime)
    assert second.before.count == 31
    second.close()


def test_an_earlier_count_that_stays_on_the_disk_is_not_added_twice(tmp_path: Path) -> None:
    folder, runtime = tmp_path / "journal", tmp_path / "run"
    folder.mkdir()
    runtime.mkdir()
    first = started(folder, runtime)
    first.take(tap(), WHY)
    first.write()
    first.close()
    stuck = (folder / room.PLACE).read_bytes()
    for _ in range(3):
        (folder / room.PLACE).write_bytes(stuck)
        later = Unsaved(folder, runtime)
        count = later.before.count
        (folder / room.PLACE).unlink()
        (folder / room.PLACE).mkdir()
        later.take(tap(), WHY)
        later.write()
        later.close()
        (folder / room.PLACE).rmdir()
        (folder / room.PLACE).write_bytes(stuck)
        assert Unsaved(folder, runtime).before.count == count + 1


def test_memory_is_bounded_and_a_sale_is_left_to_its_till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_EVENTS", 3)
    made = started(tmp_path)
    sale = tap()
    sale.kind = "sale"
    assert not made.take(sale, WHY)
    assert [made.take(tap(number), WHY) for number in range(4)] == [True, True, True, False]
    assert (made.held, made.lost.count, made.open_tally.count) == (3, 2, 5)
    made.delivered(1, [])
    assert made.take(tap(9), WHY)
    assert (made.held, made.open_tally.count) == (3, 5)
    made.close()


def test_what_the_disk_refused_is_journaled_first_with_its_number_in_was(tmp_path: Path) -> None:
    journal = small(tmp_path / "journal", quota_bytes=512 << 10)
    until_full(journal)
    for number in range(4):
        with pytest.raises(JournalFull):
            journal.append(tap(900 + number)).wait(5)
    head, epoch = journal.head, journal.unsaved.epoch
    assert journal.stats().unsaved == 5
    journal.acknowledge(head)
    assert journal.append(tap(999)).wait(5) == head + 6
    events = [decode_event(raw) for _, raw in journal.after(head, 10)]
    assert [event.was for event in events[:5]] == [Was(epoch, seq) for seq in range(1, 6)]
    assert journal.stats().unsaved == journal.stats().lost == 0
    journal.close()
    again = small(tmp_path / "journal", quota_bytes=512 << 10)
    assert again.unsaved.before.count == 0
    again.close()


def test_a_note_is_whole_whatever_one_write_left(tmp_path: Path) -> None:
    note = Note(tmp_path / "note")
    note.write({"count": 1}, sync=True)
    note.write({"count": 2}, sync=True)
    whole = note.path.read_bytes()
    for cut in range(512):
        # The second statement lies in the first slot; the one before it stays behind it.
        note.path.write_bytes(os.urandom(cut) + whole[cut:])
        found = Note(note.path).read()
        assert found is not None
        assert found["count"] in {1, 2}
    note.close()


def test_a_file_of_somebody_else_or_a_link_says_nothing(tmp_path: Path) -> None:
    note = Note(tmp_path / "note")
    note.write({"count": 5}, sync=True)
    (tmp_path / "link").symlink_to(note.path)
    assert Note(tmp_path / "link").read() is None
    with pytest.raises(OSError, match="symbolic"):
        Note(tmp_path / "link").write({"count": 6}, sync=True)
    if os.geteuid() == 0:
        os.chown(note.path, 12345, 12345)
        assert Note(note.path).read() is None
    note.close()


def test_the_unit_s_own_folder_comes_first(tmp_path: Path) -> None:
    assert runtime_folder({"RUNTIME_DIRECTORY": f"{tmp_path}:/elsewhere"}) == tmp_path
    assert runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path
