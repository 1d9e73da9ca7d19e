"""Runs due jobs: a few at a time, one a source and one a host, each with a deadline.

A run that takes too long is told and loses its place, so that nobody waits for it; it goes on, and until it ends its
source is not begun again. Several hub processes may run this; a lease in the database decides between them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import StoreUnavailable
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.work.jobs import (
    Job,
    Outcome,
    due_jobs,
    finish,
    note_overdue,
    renew_leases,
    take_lease,
)

log = logging.getLogger(__name__)

WORKERS = 4
LOOK_SECONDS = 5.0
_END_SECONDS = 60.0


@dataclass(slots=True)
class _Run:
    job: Job
    host: str | None
    started_ms: int
    deadline_ms: int
    thread: threading.Thread | None = None
    outcome: Outcome | None = None
    is_overdue: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What jobs do, given by the room that owns them.

    Attributes:
        run: does one job on a thread of its own; an error it raises is a failure of that job only.
        host_of: names what a job loads besides this machine, None for nothing.
        minutes: the deadline of each kind.
        follow: called before each look, to bring the table in line with the settings.
        note: called after each run with its outcome and start.
    """

    run: Callable[[Job], Outcome]
    host_of: Callable[[Job], str | None] = lambda _job: None
    minutes: dict[str, int] = field(default_factory=dict)
    follow: Callable[[int], None] = lambda _at_ms: None
    note: Callable[[Job, Outcome, int], None] = lambda _job, _outcome, _started_ms: None


class Runner:
    """Looks for due jobs on its own thread.

    Args:
        holder: names this process in leases.
        beat: called on every turn; feeds the watchdog. A long run must not look like a dead loop, so runs have threads
            of their own.
        clock: in milliseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        holder: str,
        work: Work,
        *,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = now_ms,
        workers: int = WORKERS,
    ) -> None:
        self._store, self._holder, self._work = store, holder, work
        self._beat, self._clock, self._workers = beat, clock, workers
        self._runs: list[_Run] = []
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="work", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the runs under way; one that is overdue is left behind."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_END_SECONDS)
        for run in self._runs:
            if run.thread is not None and not run.is_overdue:
                run.thread.join(_END_SECONDS)
        self._settle_quietly()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._beat()
            self._wake.clear()
            try:
                self.turn()
            except StoreUnavailable as error:
                log.warning("the jobs wait: %s", error)
            except Exception:
                log.exception("the jobs met a fault of their own; they go on")
            self._wake.wait(LOOK_SECONDS)

    def turn(self) -> None:
        """Record what has ended, then begin what is due.

        Raises:
            StoreUnavailable: the database does not answer; nothing is lost, call again.
        """
        self._settle()
        self._watch_deadlines()
        at_ms = self._clock()
        self._work.follow(at_ms)
        with self._store.read() as connection:
            due = due_jobs(connection, at_ms)
        for job in due:
            if self._stopping.is_set() or sum(not run.is_overdue for run in self._runs) >= self._workers:
                return
            host = self._work.host_of(job)
            if not self._is_busy(job, host):
                self._begin(job, host, at_ms)

    def _is_busy(self, job: Job, host: str | None) -> bool:
        # An overdue run keeps its own source, but no longer the host that other sources share with it.
        for run in self._runs:
            if run.job.id == job.id or (job.source is not None and run.job.source == job.source):
                return True
            if host is not None and run.host == host and not run.is_overdue:
                return True
        return False

    def _begin(self, job: Job, host: str | None, at_ms: int) -> None:
        with self._store.write() as connection:
            if not take_lease(connection, job.id, self._holder, at_ms):
                return
        run = _Run(job, host, at_ms, at_ms + self._minutes(job) * 60_000)
        run.thread = threading.Thread(target=self._do, args=(run,), name=f"job-{job.id}", daemon=True)
        self._runs.append(run)
        run.thread.start()

    def _minutes(self, job: Job) -> int:
        return self._work.minutes.get(job.kind, 15)

    def _do(self, run: _Run) -> None:
        try:
            run.outcome = self._work.run(run.job)
        except Exception as error:
            # An unexpected error may quote a row; its type is enough for the table, the log has the rest.
            log.exception("the job %s of site %s failed", run.job.kind, run.job.site)
            run.outcome = Outcome("failed", "failed", type(error).__name__)
        self._wake.set()

    def _settle(self) -> None:
        for run in [run for run in self._runs if run.outcome is not None]:
            assert run.outcome is not None
            with self._store.write() as connection:
                finish(connection, run.job, self._holder, run.started_ms, self._clock(), run.outcome)
            self._work.note(run.job, run.outcome, run.started_ms)
            self._runs.remove(run)
        going_on = [run.job.id for run in self._runs]
        if going_on:
            with self._store.write() as connection:
                renew_leases(connection, going_on, self._holder, self._clock())

    def _settle_quietly(self) -> None:
        try:
            self._settle()
        except StoreUnavailable as error:
            log.warning("how the last jobs ended is not recorded; they run again: %s", error)

    def _watch_deadlines(self) -> None:
        at_ms = self._clock()
        for run in self._runs:
            if run.is_overdue or at_ms < run.deadline_ms:
                continue
            minutes = self._minutes(run.job)
            log.error("the job %s of site %s takes longer than %d minutes", run.job.kind, run.job.site, minutes)
            with self._store.write() as connection:
                note_overdue(connection, run.job, run.started_ms, minutes)
            run.is_overdue = True
