from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from gateway.hub.store.engine import Store
from gateway.hub.work.jobs import Job, JobSpec, Outcome, follow, list_jobs
from gateway.hub.work.runner import Runner, Work
from gateway.hub.work.times import Timing
from tests.hub.samples import SITE, wait_until
from tests.hub.work.test_jobs import MINUTE, NOON, add_source


class Clock:
    def __init__(self) -> None:
        self.at_ms = NOON

    def __call__(self) -> int:
        return self.at_ms


class Bench:
    """A runner over jobs that the test ends; `hosts` maps a kind of job to its host."""

    def __init__(self, store: Store, names: list[str], hosts: dict[str, str] | None = None, workers: int = 4) -> None:
        self.store, self.clock = store, Clock()
        self.begun: list[str] = []
        self.gates = {name: threading.Event() for name in names}
        self.faults: dict[str, Exception] = {}
        sources = {name: add_source(store, name).id for name in names}
        with store.write() as connection:
            specs = [JobSpec(SITE, sources[name], name, Timing(every_minutes=15), "") for name in names]
            follow(connection, specs, names, NOON)
        work = Work(self._run, lambda job: (hosts or {}).get(job.kind), dict.fromkeys(names, 10))
        self._work, self._workers = work, workers
        self.runner = self.another("hub-0")

    def another(self, holder: str) -> Runner:
        return Runner(self.store, holder, self._work, clock=self.clock, workers=self._workers)

    def _run(self, job: Job) -> Outcome:
        self.begun.append(job.kind)
        if job.kind in self.faults:
            raise self.faults[job.kind]
        assert self.gates[job.kind].wait(30)
        return Outcome("done")

    def turn_until(self, true: Callable[[], bool], what: str) -> None:
        def turned() -> bool:
            self.runner.turn()
            return true()

        wait_until(turned, what)

    def has_begun(self, *names: str) -> Callable[[], bool]:
        return lambda: set(names) <= set(self.begun)

    def result(self, name: str) -> str | None:
        return self.job(name).last_result

    def job(self, name: str) -> Job:
        with self.store.read() as connection:
            return next(job for job in list_jobs(connection) if job.kind == name)


@pytest.fixture
def open_gates() -> Iterator[list[Bench]]:
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        for gate in bench.gates.values():
            gate.set()
        bench.runner.stop()


def test_a_source_that_hangs_delays_no_other(store: Store, open_gates: list[Bench]) -> None:
    bench = Bench(store, ["slow", "quick"])
    open_gates.append(bench)
    bench.gates["quick"].set()
    bench.turn_until(lambda: bench.result("quick") == "done", "the quick source waits for the slow one")
    assert bench.result("slow") is None
    bench.clock.at_ms += 15 * MINUTE
    bench.turn_until(lambda: bench.begun.count("quick") == 2, "the quick source is not read again")
    assert bench.begun.count("slow") == 1


def test_a_source_that_fails_unforeseen_delays_no_other_and_says_nothing_personal(
    store: Store, open_gates: list[Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(store, ["bad", "good"])
    open_gates.append(bench)
    bench.faults["bad"] = ValueError("Ann Smith")
    bench.gates["good"].set()
    bench.turn_until(lambda: bench.result("good") == "done" and bench.result("bad") == "failed", "one did not end")
    assert bench.job("bad").last_error == "ValueError"
    assert "failed" in caplog.text


def test_a_run_beyond_its_deadline_is_told_and_gives_its_place_away(store: Store, open_gates: list[Bench]) -> None:
    bench = Bench(store, ["slow", "quick"], workers=1)
    open_gates.append(bench)
    bench.turn_until(bench.has_begun("slow"), "nothing began")
    bench.runner.turn()
    assert bench.begun == ["slow"]
    bench.clock.at_ms += 10 * MINUTE
    bench.gates["quick"].set()
    bench.turn_until(lambda: bench.result("quick") == "done", "the overdue run keeps its place")
    slow = bench.job("slow")
    assert (slow.last_result, slow.failure, slow.failing_since_ms) == ("overdue", "timeout", NOON)
    # However late: its source is not read a second time meanwhile, and what it brings in the end counts.
    bench.clock.at_ms += 60 * MINUTE
    bench.turn_until(lambda: bench.begun.count("quick") == 2, "the quick source is not read again")
    assert bench.begun.count("slow") == 1
    bench.gates["slow"].set()
    bench.turn_until(lambda: bench.result("slow") == "done", "the late run is not recorded")
    assert bench.job("slow").failing_since_ms is None


def test_one_host_is_asked_by_one_run_at_a_time(store: Store, open_gates: list[Bench]) -> None:
    bench = Bench(store, ["one", "two", "other"], {"one": "api.example", "two": "api.example", "other": "x.example"})
    open_gates.append(bench)
    bench.turn_until(bench.has_begun("one", "other"), "the first two did not begin")
    bench.runner.turn()
    assert "two" not in bench.begun
    bench.gates["one"].set()
    bench.turn_until(bench.has_begun("two"), "the second run never began")


def test_no_more_than_the_workers_run_at_once(store: Store, open_gates: list[Bench]) -> None:
    names = [f"source-{number}" for number in range(6)]
    bench = Bench(store, names)
    open_gates.append(bench)
    bench.turn_until(lambda: len(bench.begun) == 4, "four did not begin")
    bench.runner.turn()
    assert len(bench.begun) == 4
    bench.gates[bench.begun[0]].set()
    bench.turn_until(lambda: len(bench.begun) == 5, "the fifth never began")


def test_a_long_run_keeps_its_lease_before_another_hub_process(store: Store, open_gates: list[Bench]) -> None:
    bench = Bench(store, ["slow"])
    open_gates.append(bench)
    bench.turn_until(bench.has_begun("slow"), "nothing began")
    other = bench.another("hub-1")
    for _ in range(5):
        bench.clock.at_ms += MINUTE // 2
        bench.runner.turn()
        other.turn()
    assert bench.begun == ["slow"]


def test_the_loop_beats_begins_what_is_due_and_stops(store: Store) -> None:
    bench = Bench(store, ["quick"])
    bench.gates["quick"].set()
    beats: list[int] = []
    runner = Runner(store, "hub-0", bench._work, clock=bench.clock, beat=lambda: beats.append(1))
    runner.start()
    wait_until(lambda: bench.result("quick") == "done", "nothing ran")
    runner.stop()
    assert beats
