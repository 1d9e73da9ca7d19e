from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.access.event import Event, decode_event
from gateway.edge.clock import Clock
from gateway.edge.refusals import Refusals
from gateway.edge.tapline import Recorder
from gateway.errors import JournalFull
from gateway.journal.journal import Journal, JournalStats
from tests.hub.samples import wait_until
from tests.journal.journals import GATEWAY, small, tap, until_full

WHY = "The disk is full."


class Bench:
    """A journal whose state can be changed, and what is recorded in it."""

    def __init__(self, folder: Path) -> None:
        self.journal = small(folder)
        self.state = "ok"
        self.tries = 0
        self.fails: list[Exception] = []
        recorder = Recorder(GATEWAY, lambda: self.journal.boot, Clock(), self._append)
        self.refusals = Refusals(self._stats, recorder, self.journal.unsaved)

    def lose(self, count: int) -> None:
        for number in range(count):
            self.journal.unsaved.lose(tap(number), WHY)

    def _stats(self) -> JournalStats:
        return replace(self.journal.stats(), state=self.state)

    def _append(self, event: Event) -> Any:
        self.tries += 1
        ticket = self.journal.append(event)
        ticket.wait(5)
        return _Fails(self.fails.pop(0)) if self.fails else ticket

    def told(self) -> list[int]:
        return told(self.journal)


def told(journal: Journal) -> list[int]:
    events = (decode_event(raw) for _, raw in journal.after(0, 10_000))
    return [event.system["count"] for event in events if isinstance(event.system, dict) and "count" in event.system]


class _Fails:
    done = True

    def __init__(self, error: Exception) -> None:
        self._error = error

    def wait(self, _timeout: float) -> int:
        raise self._error


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "journal")
    yield bench
    bench.journal.close()


def test_lost_events_are_told_once_and_only_when_the_journal_is_well_again(bench: Bench) -> None:
    bench.refusals.turn()
    bench.state = "alarm"
    bench.lose(3)
    bench.refusals.turn()
    bench.lose(2)
    bench.refusals.turn()
    assert bench.tries == 0
    bench.state = "ok"
    for _ in range(3):
        bench.refusals.turn()
    assert bench.told() == [5]
    bench.lose(1)
    bench.refusals.turn()
    assert bench.told() == [5, 1]


@pytest.mark.parametrize("error", [TimeoutError(), JournalFull("The journal is full.")])
def test_a_record_that_may_not_have_been_kept_is_told_again(bench: Bench, error: Exception) -> None:
    bench.lose(4)
    bench.fails.append(error)
    bench.refusals.turn()
    bench.refusals.turn()
    bench.refusals.turn()
    assert bench.told() == [4, 4]


def test_what_an_earlier_start_lost_is_told_once(tmp_path: Path) -> None:
    journal = small(tmp_path / "journal", quota_bytes=512 << 10)
    until_full(journal)
    for number in range(30):
        journal.append(tap(number))
    journal.close()
    for start in range(3):
        again = small(tmp_path / "journal", quota_bytes=4 << 20)
        assert again.unsaved.before.count == (0 if start else 31)
        recorder = Recorder(GATEWAY, lambda again=again: again.boot, Clock(), again.append)
        refusals = Refusals(again.stats, recorder, again.unsaved)
        for _ in range(3):
            refusals.turn()
            again.settle()
        assert told(again) == [31]
        again.close()


def test_what_waited_in_memory_is_journaled_and_not_told_as_lost(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal", GATEWAY, quota_bytes=1 << 20, segment_bytes=1 << 17, keep_days=0)
    recorder = Recorder(GATEWAY, lambda: journal.boot, Clock(), journal.append)
    refusals = Refusals(journal.stats, recorder, journal.unsaved)
    until_full(journal)
    refusals.turn()
    head = journal.head
    journal.acknowledge(head, [])
    wait_until(lambda: journal.stats().state == "ok", "the journal finds no room")
    wait_until(lambda: journal.head == head + 1, "the event in memory is not journaled")
    refusals.turn()
    assert told(journal) == []
    journal.close()
