from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.access.event import decode_event
from gateway.errors import JournalFull, JournalLocked, JournalMisuse
from gateway.journal import anchor
from gateway.journal.chain import link_of
from gateway.journal.face import JournalReader
from gateway.journal.journal import Journal
from gateway.journal.segments import DATA_START, list_segments, segment_path
from tests.journal.journals import GATEWAY, assert_chained, fill, read_back, small, tap, until_full


def test_an_event_gets_epoch_number_and_chain_from_the_journal(tmp_path: Path) -> None:
    journal = small(tmp_path)
    assert [journal.append(tap(number)).wait(5) for number in range(3)] == [1, 2, 3]
    stored = journal.after(0, 10)
    journal.close()
    events = [decode_event(raw) for _, raw in stored]
    assert [event.seq for event in events] == [1, 2, 3]
    assert {event.epoch for event in events} == {journal.epoch}
    assert_chained([raw for _, raw in stored])


def test_everything_is_there_again_after_a_restart_and_the_chain_goes_on(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 400)
    before = journal.after(0, 1000)
    journal.close()
    again = small(tmp_path)
    assert (again.epoch, again.boot, again.head) == (journal.epoch, 2, 400)
    assert again.after(0, 1000) == before
    assert again.append(tap(boot=2)).wait(5) == 401
    assert_chained([raw for _, raw in again.after(0, 1000)])
    again.close()


def test_events_of_many_threads_get_numbers_without_holes(tmp_path: Path) -> None:
    journal = small(tmp_path)
    seqs: queue.SimpleQueue[int] = queue.SimpleQueue()

    def append() -> None:
        for number in range(100):
            seqs.put(journal.append(tap(number)).wait(10))

    threads = [threading.Thread(target=append) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs.get() for _ in range(800)) == list(range(1, 801))
    assert_chained([raw for _, raw in journal.after(0, 1000)])
    journal.close()


def test_a_subscriber_hears_of_an_event_after_it_is_durable(tmp_path: Path) -> None:
    journal = small(tmp_path)
    heard: queue.SimpleQueue[tuple[int, bytes, bytes]] = queue.SimpleQueue()
    journal.subscribe(lambda seq, raw, _event: heard.put((seq, raw, read_back(tmp_path)[seq])))
    journal.append(tap())
    seq, raw, on_disk = heard.get(timeout=5)
    assert seq == 1
    assert raw == on_disk
    journal.close()


def test_a_subscriber_that_raises_does_not_stop_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = small(tmp_path)

    def broken(_seq: int, _raw: bytes, _event: object) -> None:
        raise RuntimeError("screen gone")

    journal.subscribe(broken)
    assert [journal.append(tap()).wait(5), journal.append(tap()).wait(5)] == [1, 2]
    journal.close()
    assert "subscriber" in caplog.text


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 10)
    with pytest.raises(JournalLocked):
        small(tmp_path)
    script = (
        "import sys; from pathlib import Path; from gateway.journal.face import JournalReader;"
        "reader = JournalReader.open(Path(sys.argv[1])); print(reader.head, len(list(reader.stored())))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.split() == ["10", "10"]
    journal.close()
    small(tmp_path).close()


def test_whole_segments_go_when_the_hub_has_them_and_the_watermark_is_kept(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 1000)
    many = len(list_segments(tmp_path))
    journal.acknowledge(900)
    journal.append(tap()).wait(5)
    assert journal.after(900, 1)[0][0] == 901
    journal.close()
    assert len(list_segments(tmp_path)) < many
    again = small(tmp_path)
    assert again.acked == 900
    assert again.head == 1001
    again.close()


def test_the_watermark_only_rises_and_ranges_above_it_count(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 10)
    journal.acknowledge(7, [(9, 9)])
    journal.acknowledge(3)
    assert journal.acked == 7
    journal.acknowledge(7, [(9, 9)])
    assert journal.stats().waiting == 2
    journal.acknowledge(10)
    assert journal.acked == 10
    assert journal.stats().waiting == 0
    journal.close()


def test_acknowledged_segments_stay_for_replay_until_the_retention_is_over(tmp_path: Path) -> None:
    journal = small(tmp_path, keep_days=7)
    fill(journal, 1000)
    journal.acknowledge(1000)
    journal.append(tap()).wait(5)
    assert journal.after(0, 1)[0][0] == 1
    journal.close()
    eight_days_ago = tmp_path.stat().st_mtime - 8 * 86400
    for number in list_segments(tmp_path):
        os.utime(segment_path(tmp_path, number), (eight_days_ago, eight_days_ago))
    again = small(tmp_path, keep_days=7)
    again.append(tap()).wait(5)
    again.acknowledge(1001)
    again.close()
    assert again.oldest > 1000


def test_a_full_quota_refuses_and_alarms_and_recovers_when_the_hub_is_back(tmp_path: Path) -> None:
    journal = small(tmp_path, quota_bytes=512 << 10)
    assert "quota" in str(until_full(journal))
    kept = journal.head
    stats = journal.stats()
    assert stats.state == "alarm"
    assert stats.bytes <= 512 << 10
    assert len(read_back(tmp_path)) == kept
    assert stats.unsaved == 1
    journal.acknowledge(kept - 50)
    # The refused one comes first, from memory.
    assert journal.append(tap()).wait(5) == kept + 2
    assert journal.stats().state == "ok"
    assert len(journal.after(kept - 50, 100)) == 52
    journal.close()


def test_a_journal_that_opens_with_its_quota_used_up_can_still_be_emptied(tmp_path: Path) -> None:
    journal = small(tmp_path, quota_bytes=512 << 10)
    until_full(journal)
    head = journal.head
    journal.close()
    again = small(tmp_path, quota_bytes=512 << 10)
    with pytest.raises(JournalFull):
        again.append(tap()).wait(5)
    assert again.stats().state == "alarm"
    again.acknowledge(head)
    assert again.append(tap()).wait(5) == head + 2
    again.close()


def test_replay_segments_are_given_up_before_a_new_event_is_refused(tmp_path: Path) -> None:
    journal = small(tmp_path, quota_bytes=512 << 10, keep_days=3650)
    for number in range(3000):
        journal.acknowledge(journal.append(tap(number)).wait(5))
    assert journal.stats().refused == 0
    assert journal.oldest > 1
    journal.close()


def test_a_torn_tail_is_cut_and_its_number_is_never_given_again(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 20)
    journal.close()
    known = read_back(tmp_path)[20]
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    again = small(tmp_path)
    assert again.head == 20
    assert [damage.torn for damage in again.stats().damage] == [True]
    assert again.stats().damage[0].missing == ((20, 20),)
    assert again.append(tap(boot=2)).wait(5) == 21
    raws = [raw for _, raw in again.after(0, 100)]
    assert_chained(raws[:20])
    # The anchor knows the bytes that event 20 had, as the hub may.
    assert decode_event(raws[20]).prev == link_of(known).hex()
    assert decode_event(raws[19]).system == {
        "what": "event_lost",
        "why": "its record on the card cannot be read",
    }
    assert (tmp_path / "damage" / path.name).read_bytes() == whole[:-30]
    again.close()
    third = small(tmp_path)
    assert [raw for _, raw in third.after(0, 100)] == raws
    third.close()


def test_a_cut_between_two_records_loses_nothing_else(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 20)
    journal.close()
    path = segment_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:DATA_START])
    (tmp_path / anchor.PLACE).unlink()
    reader = JournalReader.open(tmp_path)
    assert reader.head == 0
    again = small(tmp_path)
    assert again.append(tap()).wait(5) == 1
    again.close()


def test_a_damaged_header_is_rebuilt_from_the_neighbours(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 1000)
    journal.close()
    whole = read_back(tmp_path)
    with segment_path(tmp_path, 2).open("r+b") as file:
        file.write(os.urandom(DATA_START))
    assert read_back(tmp_path) == whole
    assert any("header" in damage.what for damage in JournalReader.open(tmp_path).damage())


def test_a_crash_loop_does_not_eat_the_quota(tmp_path: Path) -> None:
    for _ in range(40):
        journal = small(tmp_path, quota_bytes=512 << 10)
        journal.append(tap()).wait(5)
        journal.close()
    assert journal.boot == 40
    assert journal.head == 40
    for _ in range(10):
        small(tmp_path, quota_bytes=512 << 10).close()
    assert len(list_segments(tmp_path)) <= 42


def test_an_event_of_another_gateway_or_too_large_is_refused_alone(tmp_path: Path) -> None:
    journal = small(tmp_path)
    stranger = tap()
    stranger.gw = "gw-gate"
    with pytest.raises(JournalMisuse, match="gw-gate"):
        journal.append(stranger)
    large, odd = tap(), tap()
    large.data = {"text": "x" * 20_000}
    odd.data = {"text": object()}
    tickets = [journal.append(tap()), journal.append(large), journal.append(odd), journal.append(tap())]
    assert tickets[0].wait(5) == 1
    assert tickets[3].wait(5) == 2
    for ticket in tickets[1:3]:
        with pytest.raises(JournalMisuse):
            ticket.wait(5)
    assert_chained([raw for _, raw in journal.after(0, 10)])
    journal.close()
    with pytest.raises(JournalMisuse):
        journal.append(tap())


def test_the_journal_of_one_gateway_names_it_in_every_segment(tmp_path: Path) -> None:
    journal = small(tmp_path)
    journal.close()
    assert JournalReader.open(tmp_path).gateway == GATEWAY
    with pytest.raises(JournalMisuse, match="old id"):
        Journal.open(tmp_path, "gw-library")
    small(tmp_path).close()
