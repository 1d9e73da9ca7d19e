"""What is wrong now: sources, held runs, silent gateways, the hub itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, or_, select

from gateway.hub.fleet.claim import hub_alarm
from gateway.hub.mail.alarms import DAY_MS, Fault
from gateway.hub.store import tables
from gateway.hub.store.times import from_ms, to_ms

FAILING_MS = 3600 * 1000
_SCHOOL_DAY = (time(8), time(16))
_MOST_DAYS_BACK = 60
_REASON_CHARS = 300
# Row by row what somebody has to do: three different things, so three different mails.
_TEMPLATES = {
    "unreachable": "source_unreachable",
    "timeout": "source_unreachable",
    "tls": "source_unreachable",
    "refused": "source_password",
    "expired": "source_password",
    "revoked": "source_password",
    "not_approved": "source_password",
    "object_missing": "source_moved",
}


def find_faults(connection: Connection, at_ms: int) -> list[Fault]:
    """Return everything that somebody should be told of."""
    site = tables.site
    zones = {row.id: ZoneInfo(row.timezone) for row in connection.execute(select(site.c.id, site.c.timezone))}
    found = [*_sources(connection, zones, at_ms), *_held(connection, zones), *_gateways(connection, zones, at_ms)]
    why = hub_alarm(connection, at_ms - DAY_MS)
    if why is not None:
        found.append(Fault("hub", "", "hub_alarm", at_ms, ZoneInfo("UTC"), {"why": why[:_REASON_CHARS]}))
    return found


def _sources(connection: Connection, zones: dict[str, ZoneInfo], at_ms: int) -> Iterator[Fault]:
    job, source = tables.job, tables.source
    columns = (job.c.site, source.c.id, source.c.name, job.c.failing_since_ms, job.c.failure, job.c.last_error)
    query = (
        select(*columns)
        .join_from(job, source)
        .where(or_(job.c.failing_since_ms <= at_ms - FAILING_MS, job.c.stopped_why.is_not(None)))
        .where(job.c.failing_since_ms.is_not(None))
        .order_by(job.c.failing_since_ms)
    )
    seen = set()
    for site, number, name, since_ms, failure, error in connection.execute(query):
        if number in seen:
            continue
        seen.add(number)
        template = _TEMPLATES.get(failure, "source_failing")
        params = {"source": name, "why": (error or failure)[:_REASON_CHARS]}
        # Another cause needs somebody to do something else, so it is another fault.
        yield Fault(f"{template} {number}", site, template, since_ms, zones[site], params)


def _held(connection: Connection, zones: dict[str, ZoneInfo]) -> Iterator[Fault]:
    run, source = tables.sync_run, tables.source
    newest = (
        select(func.max(run.c.id)).where(run.c.result.in_(("done", "held"))).group_by(run.c.source).scalar_subquery()
    )
    query = (
        select(source.c.site, source.c.id, source.c.name, run.c.started_ms)
        .join_from(run, source)
        .where(run.c.id.in_(newest), run.c.result == "held", source.c.removed_ms.is_(None))
    )
    for site, number, name, since_ms in connection.execute(query):
        yield Fault(f"held {number}", site, "held", since_ms, zones[site], {"source": name})


def _gateways(connection: Connection, zones: dict[str, ZoneInfo], at_ms: int) -> Iterator[Fault]:
    gateway, holiday = tables.gateway, tables.holiday
    free: dict[str, list[tuple[date, date]]] = {}
    for row in connection.execute(select(holiday)):
        free.setdefault(row.site, []).append((row.first_day, row.last_day))
    query = select(gateway).where(gateway.c.seen_ms.is_not(None), gateway.c.state != "ready")
    for row in connection.execute(query):
        heard_ms = max(row.seen_ms, row.live_ms or 0)
        if was_silent_for_a_school_day(heard_ms, at_ms, zones[row.site], free.get(row.site, [])):
            params = {"gateway": row.name}
            yield Fault(f"gateway {row.id}", row.site, "gateway_silent", heard_ms, zones[row.site], params)


def was_silent_for_a_school_day(heard_ms: int, at_ms: int, zone: ZoneInfo, holidays: list[tuple[date, date]]) -> bool:
    """Return whether a whole school day, Monday to Friday from 8 to 16 outside holidays, has passed since."""
    begins, ends = _SCHOOL_DAY
    day = from_ms(at_ms, zone).date()
    for _ in range(_MOST_DAYS_BACK):
        is_free = day.weekday() >= 5 or any(first <= day <= last for first, last in holidays)
        if not is_free and to_ms(datetime.combine(day, ends, zone).astimezone(UTC)) <= at_ms:
            return heard_ms < to_ms(datetime.combine(day, begins, zone).astimezone(UTC))
        day -= timedelta(days=1)
    return True
