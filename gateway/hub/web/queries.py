"""What the pages show, read in one transaction each; masked: a card is its tail, never its key."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select, text

from gateway.hub.directory.people import find_people
from gateway.hub.store import tables
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.web.what import say_suspicion, say_what

PAGE_ROWS = 50
SUSPICION_DAYS = 30
_MANY = 200


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What a logbook page is asked for; None is no condition.

    Attributes:
        day: a day of the site's local time.
        person: part of a name, an id, or a reference.
    """

    site: str | None = None
    point: str | None = None
    decision: str | None = None
    kind: str | None = None
    person: str | None = None
    day: date | None = None
    page: int = 0


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the logbook.

    Attributes:
        at: the time of the tap in the site's time zone.
        matched: the card became known after the tap, and the hub found the person then.
        delay_seconds: from the tap to its commit at the hub.
        what: what an event that is no tap says, empty for a tap.
        at_how: `set`, or how the time was found although the gateway's clock was not (see access.timeline).
        at_error_seconds: how far the time may be off, None where it is right or nothing bounds it.
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
    what: str


def read_log(connection: Connection, asked: LogFilter) -> tuple[list[LogRow], bool]:
    """Give a page of the logbook, newest first, and whether more follows."""
    event, gateway, person = tables.event, tables.gateway, tables.person
    wanted = (
        select(event, gateway.c.name.label("gateway_name"), person.c.given_name, person.c.family_name)
        .join_from(event, gateway)
        .outerjoin(person, person.c.ref == event.c.person)
    )
    zones = site_zones(connection)
    wanted = _narrowed(connection, wanted, asked, zones)
    wanted = wanted.order_by(event.c.at_ms.desc(), event.c.gateway, event.c.seq.desc())
    rows = connection.execute(wanted.offset(asked.page * PAGE_ROWS).limit(PAGE_ROWS + 1)).all()
    return [_log_row(row, zones) for row in rows[:PAGE_ROWS]], len(rows) > PAGE_ROWS


def _narrowed(
    connection: Connection, wanted: Select[Any], asked: LogFilter, zones: dict[str, zoneinfo.ZoneInfo]
) -> Select[Any]:
    event = tables.event
    for name in ("site", "point", "decision", "kind"):
        value = getattr(asked, name)
        if value:
            wanted = wanted.where(event.c[name] == value)
    if asked.person:
        people, _ = find_people(connection, site=asked.site, text=asked.person, limit=_MANY)
        wanted = wanted.where(event.c.person.in_([item.ref for item in people]))
    if asked.day:
        zone = zones.get(asked.site or "") or next(iter(zones.values()), zoneinfo.ZoneInfo("UTC"))
        start = datetime.combine(asked.day, time(), zone)
        end = datetime.combine(asked.day + timedelta(days=1), time(), zone)
        wanted = wanted.where(event.c.at_ms >= to_ms(start), event.c.at_ms < to_ms(end))
    return wanted


def _log_row(row: Any, zones: dict[str, zoneinfo.ZoneInfo]) -> LogRow:
    name = None if row.family_name is None else f"{row.given_name} {row.family_name}".strip()
    return LogRow(
        site=row.site,
        gateway=row.gateway_name,
        epoch=row.epoch,
        seq=row.seq,
        at=from_ms(row.at_ms, zones.get(row.site)),
        kind=row.kind,
        point=row.point,
        reader=row.reader,
        tail=row.tail,
        person=row.person,
        name=name,
        decision=row.decision,
        reason=row.reason,
        historical=row.historical,
        matched=row.matched_ms is not None,
        delay_seconds=max(0, row.committed_ms - row.at_ms) / 1000,
        at_how=row.at_how,
        at_error_seconds=None if row.at_error_ms is None else row.at_error_ms / 1000,
        what=say_what(row.kind, row.raw),
    )


def site_zones(connection: Connection) -> dict[str, zoneinfo.ZoneInfo]:
    table = tables.site
    return {row.id: zoneinfo.ZoneInfo(row.timezone) for row in connection.execute(select(table.c.id, table.c.timezone))}


def known_points(connection: Connection) -> list[str]:
    """Give the points that ever logged something, for the filter of the logbook."""
    event = tables.event
    return sorted(connection.scalars(select(event.c.point).where(event.c.point.is_not(None)).distinct()))


@dataclass(frozen=True, slots=True)
class SuspicionView:
    """A card that looks like a copy.

    Attributes:
        sign: a value of cards.clones.Sign.
        what: the same as a sentence with the reader's name and the card's tail.
    """

    site: str
    gateway: str
    reader: str
    at: datetime
    tail: str
    sign: str
    what: str


# Written out, so that both databases see that their partial index holds these rows.
_SUSPICIONS = text("event.kind = 'reader' AND event.reason IS NOT NULL")


def list_suspicions(connection: Connection, now_ms: int) -> list[SuspicionView]:
    """Give the newest suspicions of the last SUSPICION_DAYS."""
    event, gateway = tables.event, tables.gateway
    wanted = (
        select(event, gateway.c.name.label("gateway_name"))
        .join_from(event, gateway)
        .where(_SUSPICIONS, event.c.at_ms >= now_ms - SUSPICION_DAYS * 86_400_000)
        .order_by(event.c.at_ms.desc())
        .limit(PAGE_ROWS)
    )
    zones = site_zones(connection)
    return [
        SuspicionView(
            row.site,
            row.gateway_name,
            row.reader or "",
            from_ms(row.at_ms, zones.get(row.site)),
            row.tail or "",
            row.reason,
            say_suspicion(row.reader or row.gateway_name, row.tail, row.reason),
        )
        for row in connection.execute(wanted)
    ]


def count_suspicions(connection: Connection) -> list[tuple[str, str, str, str, int]]:
    """Count the suspicions ever seen; gives site, gateway, reader, sign and how many."""
    event, gateway = tables.event, tables.gateway
    by = (event.c.site, gateway.c.name, func.coalesce(event.c.reader, ""), event.c.reason)
    counted = select(*by, func.count()).join_from(event, gateway).where(_SUSPICIONS).group_by(*by).order_by(*by)
    return [tuple(row) for row in connection.execute(counted)]


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


def list_runs(connection: Connection, limit: int = 50) -> list[RunView]:
    """Give the newest sync runs."""
    run, source = tables.sync_run, tables.source
    wanted = (
        select(run, source.c.site, source.c.name).join_from(run, source).order_by(run.c.started_ms.desc()).limit(limit)
    )
    zones = site_zones(connection)
    return [
        RunView(
            row.id,
            f"{row.site}/{row.name}",
            from_ms(row.started_ms, zones.get(row.site)),
            None if row.finished_ms is None else (row.finished_ms - row.started_ms) / 1000,
            row.result,
            row.plan,
            row.error,
            row.report or {},
        )
        for row in connection.execute(wanted)
    ]


@dataclass(frozen=True, slots=True)
class HoldView:
    """A held plan with its diff as operations (see sync.operations)."""

    source_id: int
    source: str
    plan: str
    reasons: list[str]
    diff: list[dict[str, Any]]
    created: datetime
    approved_by: str | None


def list_holds(connection: Connection) -> list[HoldView]:
    """Give what is held now."""
    hold, source = tables.hold, tables.source
    wanted = select(hold, source.c.site, source.c.name).join_from(hold, source).where(hold.c.closed_ms.is_(None))
    zones = site_zones(connection)
    return [
        HoldView(
            row.source,
            f"{row.site}/{row.name}",
            row.plan,
            row.reasons,
            row.diff,
            from_ms(row.created_ms, zones.get(row.site)),
            row.approved_by,
        )
        for row in connection.execute(wanted.order_by(hold.c.created_ms.desc()))
    ]


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


def list_quarantine(connection: Connection, page: int = 0) -> tuple[list[QuarantineView], bool]:
    """Give a page of the quarantine, newest first, and whether more follows."""
    table = tables.quarantine
    wanted = select(table, table.c.count.label("times")).order_by(table.c.last_ms.desc(), table.c.id.desc())
    rows = connection.execute(wanted.offset(page * PAGE_ROWS).limit(PAGE_ROWS + 1)).all()
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
