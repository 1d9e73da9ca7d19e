"""Queries behind the pages, one transaction each; a card appears as its tail, never as its key.

Each takes the scope of whoever asks first, and returns nothing of another site.
"""

from __future__ import annotations

import itertools
import zoneinfo
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Connection, Select, false, func, or_, select, true

from gateway.access.timeline import TrueTime, near_boundaries
from gateway.hub.directory.people import answers
from gateway.hub.directory.sites import list_sources
from gateway.hub.scope import Reach, Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.sync.holds import HeldOperation, list_held
from gateway.hub.web.what import say_what
from gateway.hub.work.jobs import Job, list_jobs
from gateway.hub.work.times import day_bounds

PAGE_ROWS = 50
_MANY = 200
_MOST_COUNTED = 2000
_OF_PEOPLE = ("tap", "movement", "sale")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """The filters of a logbook page; None means no condition.

    Attributes:
        day: a day of the site's local time.
        time: `unsure` for events whose gateway's clock was not set, `register` for those that may fall on either
            side of a register time.
        person: what a search for people takes (see directory.people.answers).
    """

    site: str | None = None
    point: str | None = None
    decision: str | None = None
    kind: str | None = None
    person: str | None = None
    day: date | None = None
    time: str | None = None
    page: int = 0


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the logbook.

    Attributes:
        at: the time of the tap in the site's time zone.
        matched: the card became known after the tap, and the hub found the person then.
        delay_seconds: from the tap to its commit at the hub.
        what: a description of an event other than a tap, empty for a tap.
        at_how: `set`, or how the time was found although the gateway's clock was not (see access.timeline).
        at_error_seconds: how far the time may be off, None where it is right or unbounded.
        near: the site's register times, such as `09:20`, that the event may lie on either side of.
    """

    site: str
    gateway: str
    epoch: str
    seq: int
    at: datetime
    kind: str
    point: str | None
    reader: str | None
    tail: str | None
    person: str | None
    name: str | None
    decision: str | None
    reason: str | None
    historical: bool
    matched: bool
    delay_seconds: float
    at_how: str
    at_error_seconds: float | None
    near: list[str]
    what: str


def read_log(scope: Scope, connection: Connection, filters: LogFilter) -> tuple[list[LogRow], bool]:
    """Return a page of the logbook, newest first, and whether more follows.

    Where the scope reaches no names, rows carry the card's tail only, and a search for a person finds nothing.
    """
    event, gateway, person = tables.event, tables.gateway, tables.person
    query = (
        select(event, gateway.c.name.label("gateway_name"), person.c.given_name, person.c.family_name)
        .join_from(event, gateway)
        .outerjoin(person, person.c.ref == event.c.person)
    )
    days = site_days(connection)
    least = Reach.ALL if filters.person else Reach.TAILS
    query = query.where(scope.rows(Right.LOGBOOK, event.c.site, event.c.person, least))
    query = _narrowed(query, filters, days)
    query = query.order_by(event.c.at_ms.desc(), event.c.gateway, event.c.seq.desc())
    start = filters.page * PAGE_ROWS
    if filters.time == "register":
        # Nearness to a local time of day depends on time zones, which SQL cannot do; few events have an uncertain time.
        found = connection.execution_options(yield_per=_MANY).execute(query)
        near = (row for row in found if _near(row, days))
        rows = list(itertools.islice(near, start, start + PAGE_ROWS + 1))
    else:
        rows = list(connection.execute(query.offset(start).limit(PAGE_ROWS + 1)))
    views = [_log_row(row, days, has_names=_has_names(scope, row.site)) for row in rows[:PAGE_ROWS]]
    return views, len(rows) > PAGE_ROWS


def _has_names(scope: Scope, site: str) -> bool:
    # Whoever reaches own groups gets rows of their people only.
    return scope.reach(Right.LOGBOOK, site) is not Reach.TAILS


def count_near_registers(scope: Scope, connection: Connection, since: datetime) -> tuple[int, bool]:
    """Count the taps since a moment that may lie on either side of a register time; True when there may be more."""
    event = tables.event
    days = site_days(connection)
    if not any(day.register_times for day in days.values()):
        return 0, False
    query = select(event.c.site, event.c.at_ms, event.c.at_how, event.c.at_error_ms)
    query = query.where(event.c.at_how != "set", event.c.at_ms >= to_ms(since), event.c.kind == "tap")
    query = query.where(scope.rows(Right.LOGBOOK, event.c.site, event.c.person, Reach.TAILS))
    rows = connection.execute(query.limit(_MOST_COUNTED + 1)).all()
    return sum(bool(_near(row, days)) for row in rows[:_MOST_COUNTED]), len(rows) > _MOST_COUNTED


def _narrowed(query: Select[Any], filters: LogFilter, days: dict[str, SiteDay]) -> Select[Any]:
    event, person = tables.event, tables.person
    for name in ("site", "point", "decision", "kind"):
        value = getattr(filters, name)
        if value:
            query = query.where(event.c[name] == value)
    if filters.person:
        query = query.where(event.c.person.in_(select(person.c.ref).where(answers(filters.person))))
    if filters.time:
        query = query.where(event.c.at_how != "set")
    if filters.day:
        site_day = days.get(filters.site or "") or next(iter(days.values()), _NO_SITE)
        begins, ends = day_bounds(filters.day, site_day.zone)
        query = query.where(event.c.at_ms >= to_ms(begins), event.c.at_ms < to_ms(ends))
    return query


def _near(row: Any, days: dict[str, SiteDay]) -> list[str]:
    day = days.get(row.site, _NO_SITE)
    found = TrueTime(from_ms(row.at_ms), row.at_error_ms, row.at_how)
    return [f"{clock:%H:%M}" for clock in near_boundaries(found, day.register_times, day.zone)]


def _log_row(row: Any, days: dict[str, SiteDay], *, has_names: bool) -> LogRow:
    name = f"{row.given_name} {row.family_name}".strip() if has_names and row.family_name is not None else None
    return LogRow(
        site=row.site,
        gateway=row.gateway_name,
        epoch=row.epoch,
        seq=row.seq,
        at=from_ms(row.at_ms, days.get(row.site, _NO_SITE).zone),
        kind=row.kind,
        point=row.point,
        reader=row.reader,
        tail=row.tail,
        person=row.person if has_names else None,
        name=name,
        decision=row.decision,
        reason=row.reason,
        historical=row.historical,
        matched=row.matched_ms is not None,
        delay_seconds=max(0, row.committed_ms - row.at_ms) / 1000,
        at_how=row.at_how,
        at_error_seconds=None if row.at_error_ms is None else row.at_error_ms / 1000,
        near=_near(row, days) if row.kind in _OF_PEOPLE else [],
        what=say_what(row.kind, row.raw),
    )


@dataclass(frozen=True, slots=True)
class SiteDay:
    """A site's time zone and register times."""

    zone: zoneinfo.ZoneInfo
    register_times: tuple[time, ...] = ()


_NO_SITE = SiteDay(zoneinfo.ZoneInfo("UTC"))


def site_days(connection: Connection) -> dict[str, SiteDay]:
    table = tables.site
    return {
        row.id: SiteDay(zoneinfo.ZoneInfo(row.timezone), tuple(time.fromisoformat(text) for text in row.register_times))
        for row in connection.execute(select(table.c.id, table.c.timezone, table.c.register_times))
    }


def known_points(scope: Scope, connection: Connection) -> list[str]:
    """Return the points that have logged events, for the logbook filter."""
    event = tables.event
    query = select(event.c.point).where(event.c.point.is_not(None)).distinct()
    mine = scope.rows(Right.LOGBOOK, event.c.site, event.c.person, Reach.TAILS)
    return sorted(connection.scalars(query.where(mine)))


@dataclass(frozen=True, slots=True)
class RunView:
    id: int
    source: str
    started: datetime
    seconds: float | None
    result: str
    plan: str | None
    error: str | None
    report: dict[str, Any]


def list_runs(scope: Scope, connection: Connection, limit: int = 50) -> list[RunView]:
    """Return the newest sync runs."""
    run, source = tables.sync_run, tables.source
    query = (
        select(run, source.c.site, source.c.name)
        .join_from(run, source)
        .where(scope.sites(Right.SEE_SOURCES).hold(source.c.site))
        .order_by(run.c.started_ms.desc())
        .limit(limit)
    )
    days = site_days(connection)
    return [
        RunView(
            row.id,
            f"{row.site}/{row.name}",
            from_ms(row.started_ms, days[row.site].zone),
            None if row.finished_ms is None else (row.finished_ms - row.started_ms) / 1000,
            row.result,
            row.plan,
            row.error,
            row.report or {},
        )
        for row in connection.execute(query)
    ]


@dataclass(frozen=True, slots=True)
class SourceView:
    """A source that is read: when next, how its last run ended, and why it is not read."""

    id: int
    label: str
    next: datetime | None
    last: datetime | None
    last_result: str | None
    failing_since: datetime | None
    why: str | None


def list_source_states(scope: Scope, connection: Connection) -> list[SourceView]:
    """Return every source that is read, in the order of their names."""
    jobs: dict[int, list[Job]] = {}
    for job in list_jobs(connection):
        if job.source is not None:
            jobs.setdefault(job.source, []).append(job)
    views = []
    sites = scope.sites(Right.SEE_SOURCES)
    for source in list_sources(connection):
        if source.site not in sites:
            continue
        of_source = jobs.get(source.id, [])
        ran = max(of_source, key=lambda job: job.last_ms or 0, default=None)
        times = [job.next_ms for job in of_source if job.next_ms is not None and job.stopped_why is None]
        failing = [job.failing_since_ms for job in of_source if job.failing_since_ms is not None]
        zone = of_source[0].zone if of_source else _NO_SITE.zone
        views.append(
            SourceView(
                source.id,
                source.label,
                from_ms(min(times), zone) if times else None,
                from_ms(ran.last_ms, zone) if ran and ran.last_ms else None,
                ran.last_result if ran else None,
                from_ms(min(failing), zone) if failing else None,
                next((job.stopped_why or job.last_error for job in of_source if job.failing_since_ms), None),
            )
        )
    return views


@dataclass(frozen=True, slots=True)
class HoldView:
    """What is held of one source; `reasons` with how many operations wait for each."""

    source_id: int
    source: str
    reasons: list[tuple[str, int]]
    operations: list[HeldOperation]
    total: int
    waiting: int
    since: datetime


def list_holds(scope: Scope, connection: Connection, limit: int = 500) -> list[HoldView]:
    """Return what is held now, source by source."""
    hold, source = tables.hold_op, tables.source
    query = (
        select(source.c.id, source.c.site, source.c.name, func.min(hold.c.first_ms).label("since"))
        .join_from(hold, source)
        .where(hold.c.state.in_(("held", "approved")), scope.sites(Right.APPROVE).hold(source.c.site))
        .group_by(source.c.id, source.c.site, source.c.name)
        .order_by(source.c.site, source.c.name)
    )
    days = site_days(connection)
    views = []
    for row in connection.execute(query).all():
        counted = select(hold.c.why, hold.c.state, func.count().label("times")).where(hold.c.source == row.id)
        counted = counted.where(hold.c.state.in_(("held", "approved"))).group_by(hold.c.why, hold.c.state)
        reasons: dict[str, int] = {}
        waiting = 0
        for one in connection.execute(counted):
            reasons[one.why] = reasons.get(one.why, 0) + one.times
            waiting += one.times if one.state == "held" else 0
        views.append(
            HoldView(
                row.id,
                f"{row.site}/{row.name}",
                sorted(reasons.items()),
                list_held(connection, row.id, limit=limit),
                sum(reasons.values()),
                waiting,
                from_ms(row.since, days[row.site].zone),
            )
        )
    return views


@dataclass(frozen=True, slots=True)
class QuarantineView:
    """Bytes that could not be used, shortened to what a page can show."""

    id: int
    topic: str
    epoch: str | None
    seq: int | None
    why: str
    count: int
    last: datetime
    size: int
    start: str


def list_quarantine(scope: Scope, connection: Connection, page: int = 0) -> tuple[list[QuarantineView], bool]:
    """Return a page of the quarantine, newest first, and whether more follows."""
    table = tables.quarantine
    sites = scope.sites(Right.SEE_GATEWAYS)
    # A topic names its site as it arrived; one that names none is the hub's.
    mine = [table.c.topic.startswith(f"tapgate/v1/{name}/", autoescape=True) for name in sorted(sites.names)]
    condition = true() if sites.everywhere else or_(false(), *mine)
    query = select(table, table.c.count.label("times")).where(condition)
    query = query.order_by(table.c.last_ms.desc(), table.c.id.desc())
    rows = connection.execute(query.offset(page * PAGE_ROWS).limit(PAGE_ROWS + 1)).all()
    views = [
        QuarantineView(
            row.id,
            row.topic,
            row.epoch,
            row.seq,
            row.why,
            row.times,
            from_ms(row.last_ms),
            len(row.payload),
            ascii(bytes(row.payload[:120]))[2:-1],
        )
        for row in rows[:PAGE_ROWS]
    ]
    return views, len(rows) > PAGE_ROWS


def count_quarantine(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(tables.quarantine)) or 0
