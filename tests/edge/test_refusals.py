from __future__ import annotations

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
from tests.journal.journals import GATEWAY, small, until_full


class Bench:
    """A journal whose words about itself can be changed, and what is recorded in it."""

    def __init__(self, folder: Path) -> None:
        self.journal = small(folder)
        self.refused, self.state = 0, "ok"
        self.tries = 0
        self.fails: list[Exception] = []
        recorder = Recorder(GATEWAY, self.journal.boot, Clock(), self._append)
        self.refusals = Refusals(self._stats, recorder, lambda: "2026-11-22T08:31:04.123Z")

    def _stats(self) -> JournalStats:
        return replace(self.journal.stats(), refused=self.refused, state=self.state)

    def _append(self, event: Event) -> Any:
        self.tries += 1
        ticket = self.journal.append(event)
        ticket.wait(5)
        return _Fails(self.fails.pop(0)) if self.fails else ticket

    def told(self) -> list[int]:
        events = (decode_event(raw) for _, raw in self.journal.after(0, 100))
        return [event.system["count"] for event in events if isinstance(event.system, dict)]


class _Fails:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def wait(self, _timeout: float) -> int:
        raise self._error


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    bench = Bench(tmp_path / "journal")
    yield bench
    bench.journal.close()


def test_refused_events_are_told_once_and_only_when_the_journal_is_well_again(bench: Bench) -> None:
    bench.refusals.turn()
    bench.refused, bench.state = 3, "alarm"
    bench.refusals.turn()
    bench.refused = 5
    bench.refusals.turn()
    assert bench.tries == 0
    bench.state = "ok"
    for _ in range(3):
        bench.refusals.turn()
    assert bench.told() == [5]
    bench.refused = 6
    bench.refusals.turn()
    assert bench.told() == [5, 1]


def test_its_own_refused_record_is_not_counted_among_the_others(bench: Bench) -> None:
    bench.refused = 4
    bench.fails.append(JournalFull("The journal is full."))
    bench.refusals.turn()
    bench.refused += 1
    bench.refusals.turn()
    assert bench.told()[-1] == 4


def test_a_record_that_may_not_have_been_kept_is_told_again(bench: Bench) -> None:
    bench.refused = 4
    bench.fails.append(TimeoutError())
    bench.refusals.turn()
    bench.refusals.turn()
    assert bench.told() == [4, 4]


def test_a_real_journal_that_was_full_says_so_after_the_hub_has_made_room(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal", GATEWAY, quota_bytes=1 << 20, segment_bytes=1 << 17, keep_days=0)
    recorder = Recorder(GATEWAY, journal.boot, Clock(), journal.append)
    refusals = Refusals(journal.stats, recorder, lambda: "now")
    until_full(journal)
    refusals.turn()
    head = journal.head
    journal.acknowledge(head, [])
    wait_until(lambda: journal.stats().state == "ok", "the journal finds no room")
    refusals.turn()
    (last,) = (decode_event(raw) for _, raw in journal.after(head, 10))
    assert isinstance(last.system, dict)
    why = last.system.pop("why")
    assert last.system == {"what": "events_refused", "count": 1, "since": "now", "until": "now"}
    assert "quota" in why
    journal.close()
