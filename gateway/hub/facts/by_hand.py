"""Movements that no gateway recorded: somebody of the office signs a person in or out, or the end of the day does.

They stand beside those of the gateways and are never deleted; one that is withdrawn counts no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert, select, update

from gateway.errors import RefusedError
from gateway.hub.directory.register import load_register
from gateway.hub.facts.presence import settle_presence
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.work.times import local_moment

# Registers of a month can still be corrected; what is older has been returned to the authority.
OLDEST_MS = 31 * 24 * 3600 * 1000
_EARLY_MS = 60_000
_ACTOR = "hub"


@dataclass(frozen=True, slots=True)
class Overdue:
    """Somebody who is still in at the time when everybody has left."""

    site: str
    person: str
    at_ms: int


def note_by_hand(connection: Connection, site: str, person: str, direction: str, at_ms: int, audit: Audit) -> None:
    """Store a movement that somebody of the office enters, with the reason of the audit.

    Raises:
        RefusedError: there is no reason, or the time lies ahead or too far back.
    """
    if not audit.reason:
        raise RefusedError("Say why, for instance: forgot the card; it stands beside the movement.")
    if at_ms > audit.at_ms + _EARLY_MS:
        raise RefusedError("The time of a movement may not lie ahead.")
    if at_ms < audit.at_ms - OLDEST_MS:
        raise RefusedError("Movements of more than 31 days ago can no longer be entered.")
    _insert(connection, site, person, direction, at_ms, audit, automatic=False)
    audit.note("movement_by_hand", person, direction=direction, at_ms=at_ms)


def withdraw_by_hand(connection: Connection, number: int, audit: Audit) -> None:
    """Let a movement made by hand, or by the end of a day, count no more.

    Raises:
        RefusedError: there is no such movement, or it is withdrawn already.
    """
    table = tables.hand_movement
    row = connection.execute(
        select(table.c.site, table.c.person).where(table.c.id == number, table.c.withdrawn_ms.is_(None))
    ).one_or_none()
    if row is None:
        raise RefusedError("This movement is withdrawn already; reload the page.")
    values = {"withdrawn_ms": audit.at_ms, "withdrawn_by": audit.actor}
    connection.execute(update(table).where(table.c.id == number).values(values))
    settle_presence(connection, {(row.site, row.person)})
    audit.note("movement_withdrawn", row.person, number=number)


def find_overdue(connection: Connection, at_ms: int) -> list[Overdue]:
    """Return who signed in before the last time at which a site signs everybody out, and is in still."""
    site, presence, settings = tables.site.c, tables.presence.c, tables.register_settings.c
    found: list[Overdue] = []
    owners = select(site.id, site.timezone).join_from(tables.site, tables.register_settings, settings.site == site.id)
    for name, zone in connection.execute(owners).all():
        sign_out_at = load_register(connection, name).sign_out_at
        if sign_out_at is None:
            continue
        today = from_ms(at_ms, ZoneInfo(zone)).date()
        moments = (to_ms(local_moment(today - timedelta(days=back), sign_out_at, ZoneInfo(zone))) for back in (0, 1))
        last_ms = next(moment for moment in moments if moment <= at_ms)
        stay = (presence.site == name, presence.state == "in", presence.since_ms < last_ms)
        found += [Overdue(name, person, last_ms) for person in connection.scalars(select(presence.person).where(*stay))]
    return found


def sign_out(connection: Connection, overdue: list[Overdue], at_ms: int) -> None:
    """Sign people out because the day is over; each such movement is marked as automatic."""
    for name in sorted({item.site for item in overdue}):
        audit = Audit(_ACTOR, name, at_ms)
        of_site = [item for item in overdue if item.site == name]
        for item in of_site:
            _insert(connection, name, item.person, "out", item.at_ms, audit, automatic=True)
        audit.note("signed_out_automatically", name, people=len(of_site))
        audit.write(connection)


def _insert(
    connection: Connection, site: str, person: str, direction: str, at_ms: int, audit: Audit, *, automatic: bool
) -> None:
    values = {"site": site, "person": person, "direction": direction, "at_ms": at_ms, "automatic": automatic}
    values |= {"by": audit.actor, "made_ms": audit.at_ms, "reason": audit.reason or ""}
    connection.execute(insert(tables.hand_movement).values(values))
    settle_presence(connection, {(site, person)})
