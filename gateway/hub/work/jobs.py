"""The table of jobs: which are due, who runs one, and when it runs again.

A run holds a lease that its process renews, so that two hub processes never run one job and a job outlives the process
that died with it. After a failure a job waits longer and longer; a failure that only other settings can mend stops it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update

from gateway.hub.store import tables
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.work.times import MINUTE_MS, Timing, back_off_ms, next_run

LEASE_MS = 60_000
_ERROR_CHARS = 500
_ALL_DAYS = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        result: a word for people: `done`, `held`, `failed` ...
        failure: the fixed word of a failure, None when it went well.
        stops: whether trying again is useless until the settings change; concerns every job of the source.
        busy: somebody else is at it; it is tried again in a minute and counts neither as good nor as bad.
    """

    result: str
    failure: str | None = None
    error: str | None = None
    stops: bool = False
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job with the time zone of its site."""

    id: int
    site: str
    source: int | None
    kind: str
    timing: Timing
    zone: ZoneInfo
    enabled: bool
    settings: str
    next_ms: int | None
    tries: int
    last_ms: int | None
    last_result: str | None
    failing_since_ms: int | None
    failure: str | None
    last_error: str | None
    stopped_why: str | None
    asked_ms: int | None
    asked_by: str | None

    def as_json(self) -> dict[str, Any]:
        """Return what `tapgate mis jobs` prints of it; times in the zone of the site."""
        return {
            "kind": self.kind,
            **_columns(self.timing),
            "next": self._local(self.next_ms),
            "last": self._local(self.last_ms),
            "last_result": self.last_result,
            "failing_since": self._local(self.failing_since_ms),
            "failure": self.failure,
            "last_error": self.last_error,
            "stopped_why": self.stopped_why,
        }

    def _local(self, at_ms: int | None) -> str | None:
        return None if at_ms is None else from_ms(at_ms, self.zone).isoformat(timespec="seconds")


_AS_READ = [field.name for field in fields(Job) if field.name not in {"timing", "zone"}]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as the settings want it; `settings` is a hash of all that a stopped job waits for."""

    site: str
    source: int | None
    kind: str
    timing: Timing
    settings: str
    at_once: bool = True


def list_jobs(connection: Connection, source: int | None = None) -> list[Job]:
    """Return all jobs, or those of a source, in the order in which they run next."""
    table, site = tables.job, tables.site
    query = select(table, site.c.timezone).join_from(table, site).order_by(table.c.next_ms, table.c.id)
    if source is not None:
        query = query.where(table.c.source == source)
    return [_read(row) for row in connection.execute(query).mappings()]


def follow(connection: Connection, specs: Collection[JobSpec], kinds: Collection[str], at_ms: int) -> None:
    """Make the jobs of some kinds what the settings say; one that stopped goes on when its settings changed.

    Args:
        kinds: the kinds that these settings speak of; others are left alone.
    """
    table = tables.job
    known = {(job.site, job.source, job.kind): job for job in list_jobs(connection) if job.kind in kinds}
    for item in specs:
        found = known.pop((item.site, item.source, item.kind), None)
        timing = replace(item.timing, spread_by=_spread_by(item.site, item.source))
        if found is None:
            _add(connection, item, timing, at_ms)
        elif values := _changes(found, item, timing, at_ms):
            connection.execute(update(table).where(table.c.id == found.id).values(values))
    for gone in known.values():
        connection.execute(delete(table).where(table.c.id == gone.id))


def _add(connection: Connection, item: JobSpec, timing: Timing, at_ms: int) -> None:
    zone = connection.scalar(select(tables.site.c.timezone).where(tables.site.c.id == item.site)) or "UTC"
    next_ms = at_ms if item.at_once else _next_ms(timing, ZoneInfo(zone), at_ms)
    row = {"site": item.site, "source": item.source, "kind": item.kind, "enabled": True, "settings": item.settings}
    connection.execute(insert(tables.job).values(**row, **_columns(timing), next_ms=next_ms))


def _changes(found: Job, item: JobSpec, timing: Timing, at_ms: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    is_new = found.settings != item.settings
    if is_new:
        values["settings"] = item.settings
    if is_new and (found.stopped_why is not None or found.tries):
        values |= {"stopped_why": None, "tries": 0, "next_ms": at_ms}
    if found.timing != timing:
        values |= _columns(timing)
        if found.stopped_why is None:
            values["next_ms"] = _next_ms(timing, found.zone, found.last_ms or at_ms)
    return values


def due_jobs(connection: Connection, at_ms: int) -> list[Job]:
    """Return the jobs that may begin now, those that wait longest first."""
    table, site = tables.job, tables.site
    query = (
        select(table, site.c.timezone)
        .join_from(table, site)
        .where(table.c.enabled, *_may_begin(at_ms))
        .order_by(table.c.next_ms, table.c.id)
    )
    return [_read(row) for row in connection.execute(query).mappings()]


def take_lease(connection: Connection, job: int, holder: str, at_ms: int) -> bool:
    """Take a job for this process; False when another one was quicker or it is not due any more."""
    table = tables.job
    taken = (
        update(table)
        .where(table.c.id == job, *_may_begin(at_ms))
        .values(lease_until_ms=at_ms + LEASE_MS, lease_holder=holder)
    )
    return connection.execute(taken).rowcount == 1


def _may_begin(at_ms: int) -> tuple[ColumnElement[bool], ...]:
    job = tables.job.c
    return job.next_ms <= at_ms, or_(job.lease_until_ms.is_(None), job.lease_until_ms < at_ms)


def renew_leases(connection: Connection, jobs: Collection[int], holder: str, at_ms: int) -> None:
    """Keep the jobs whose runs go on."""
    table = tables.job
    held = and_(table.c.id.in_(jobs), table.c.lease_holder == holder)
    connection.execute(update(table).where(held).values(lease_until_ms=at_ms + LEASE_MS))


def note_overdue(connection: Connection, job: Job, started_ms: int, minutes: int) -> None:
    """Note that a run goes on beyond its deadline; it counts as failing from its start."""
    values = {
        "last_result": "overdue",
        "failure": "timeout",
        "last_error": f"The run takes longer than {minutes} minutes; it goes on, and nothing waits for it.",
        "failing_since_ms": job.failing_since_ms or started_ms,
    }
    connection.execute(update(tables.job).where(tables.job.c.id == job.id).values(values))


def finish(connection: Connection, job: Job, holder: str, started_ms: int, at_ms: int, outcome: Outcome) -> None:
    """Record how a run ended, give the lease back and set when the job runs next."""
    table = tables.job
    values: dict[str, Any] = {"lease_until_ms": None, "lease_holder": None}
    if outcome.busy:
        values["next_ms"] = at_ms + MINUTE_MS
    elif outcome.failure is None:
        next_ms = _next_ms(job.timing, job.zone, started_ms)
        values |= {"last_ms": started_ms, "last_result": outcome.result}
        # Times that passed during a long run are made up once.
        values["next_ms"] = None if next_ms is None else max(next_ms, at_ms)
        values |= {"tries": 0, "failing_since_ms": None, "failure": None, "last_error": None, "stopped_why": None}
    else:
        values |= {"last_ms": started_ms, "last_result": outcome.result, "tries": job.tries + 1}
        values |= {"failure": outcome.failure, "last_error": (outcome.error or "")[:_ERROR_CHARS]}
        values["failing_since_ms"] = job.failing_since_ms or started_ms
        values["next_ms"] = at_ms + back_off_ms(job.tries)
    connection.execute(update(table).where(table.c.id == job.id, table.c.lease_holder == holder).values(values))
    if outcome.stops:
        of_source = table.c.source == job.source if job.source is not None else table.c.id == job.id
        why = (outcome.error or outcome.failure or "")[:_ERROR_CHARS]
        connection.execute(update(table).where(of_source).values(stopped_why=why, next_ms=None))
    elif outcome.failure is None and not outcome.busy and job.source is not None:
        _go_on(connection, job.source, at_ms)


def hasten(connection: Connection, source: int, at_ms: int, *, is_failing: bool = False) -> None:
    """Let a source be read as soon as may be, because there is something new; a stopped job stays stopped.

    Args:
        is_failing: only jobs whose last run failed.
    """
    table = tables.job
    waiting = [table.c.source == source, table.c.stopped_why.is_(None), table.c.next_ms > at_ms]
    if is_failing:
        waiting.append(table.c.failing_since_ms.is_not(None))
    connection.execute(update(table).where(*waiting).values(next_ms=at_ms))


def postpone(connection: Connection, source: int, kind: str, started_ms: int) -> None:
    """Count another job's run as a run of this one: it does not run again before its regular pause has passed."""
    table = tables.job
    for job in list_jobs(connection, source):
        if job.kind == kind and job.stopped_why is None:
            values = {"last_ms": started_ms, "next_ms": _next_ms(job.timing, job.zone, started_ms)}
            connection.execute(update(table).where(table.c.id == job.id).values(values))


def _go_on(connection: Connection, source: int, at_ms: int) -> None:
    # A run that somebody asked for has shown that the fault is gone.
    table = tables.job
    for job in list_jobs(connection, source):
        if job.stopped_why is not None:
            values = {"stopped_why": None, "tries": 0, "next_ms": _next_ms(job.timing, job.zone, at_ms)}
            values |= {"failing_since_ms": None, "failure": None, "last_error": None}
            connection.execute(update(table).where(table.c.id == job.id).values(values))


def _next_ms(timing: Timing, zone: ZoneInfo, after_ms: int) -> int | None:
    moment = next_run(timing, from_ms(after_ms), zone)
    return None if moment is None else to_ms(moment)


def _spread_by(site: str, source: int | None) -> str:
    return f"{site}/{source}"


def _columns(timing: Timing) -> dict[str, Any]:
    return {
        "times": [f"{at:%H:%M}" for at in timing.times] or None,
        "window": [f"{at:%H:%M}" for at in timing.window] if timing.window else None,
        "every_minutes": timing.every_minutes,
        "days": sorted(timing.days) if timing.days != _ALL_DAYS else None,
    }


def _read(row: Any) -> Job:
    window = row["window"]
    timing = Timing(
        spread_by=_spread_by(row["site"], row["source"]),
        times=tuple(time.fromisoformat(text) for text in row["times"] or ()),
        window=(time.fromisoformat(window[0]), time.fromisoformat(window[1])) if window else None,
        every_minutes=row["every_minutes"],
        days=_ALL_DAYS if row["days"] is None else frozenset(row["days"]),
    )
    return Job(timing=timing, zone=ZoneInfo(row["timezone"]), **{name: row[name] for name in _AS_READ})
