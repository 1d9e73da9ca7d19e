"""Births and wills of gateways, and what the hub knows of each."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, update

from gateway.hub.ingest.commit import enrolled_gateway
from gateway.hub.ingest.marks import stored_watermarks
from gateway.hub.scope import ALL_SITES, Sites
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms
from gateway.link.messages import GatewayState, Reported

ALARM_SHOWN_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A gateway as pages show it.

    Attributes:
        waiting: events written at its last birth that are not here yet.
        roster_newest: the newest generation of its site, None before the first.
        alarm: a fork of its history or a second machine with its id, in one sentence; None without one.
        verdict: that of its own status page when it last told, None while it has not told any; `verdict_sentence` and
            `verdict_remedy` are its words. It counts only while the gateway is there.
    """

    site: str
    name: str
    state: str
    boot: int
    epoch: str
    software: str
    waiting: int
    upto: int
    roster: int | None
    roster_newest: int | None
    seen_ms: int | None
    live_ms: int | None
    alarm: str | None = None
    verdict: str | None = None
    verdict_sentence: str = ""
    verdict_remedy: str = ""
    verdict_ms: int | None = None


def note_state(connection: Connection, site: str, name: str, state: GatewayState, at_ms: int) -> int | None:
    """Store a birth or will; return the gateway's number, None when it is not enrolled or the message is out of date.

    A will of an older boot than the last birth is out of date: the broker sent it after the gateway came back.
    """
    number = enrolled_gateway(connection, site, name)
    if number is None:
        return None
    table = tables.gateway
    boot = connection.scalar(select(table.c.boot).where(table.c.id == number)) or 0
    if state.boot < boot and not (state.state == "ready" and state.witness):
        # A birth that names its witness is never out of date: an older image of a card restarts its count of boots.
        return None
    values: dict[str, object] = {"state": state.state, "state_ms": at_ms, "boot": state.boot, "seen_ms": at_ms}
    if state.state == "ready":
        values |= {"epoch": state.epoch, "head": state.head, "acked": state.acked, "software": state.software}
        values["roster"] = state.roster
    connection.execute(update(table).where(table.c.id == number).values(values))
    return number


def note_verdict(connection: Connection, site: str, name: str, reported: Reported, at_ms: int) -> None:
    """Store what an enrolled gateway says of its health."""
    table = tables.gateway
    words = {"verdict": reported.level, "verdict_sentence": reported.sentence, "verdict_remedy": reported.remedy}
    mine = (table.c.site == site, table.c.name == name, table.c.enrolled_ms.is_not(None) | _is_trusted(site))
    connection.execute(update(table).where(*mine).values(**words, verdict_ms=at_ms))


def _is_trusted(site: str) -> ColumnElement[bool]:
    return select(tables.site.c.trust_unenrolled).where(tables.site.c.id == site).scalar_subquery()


def find_gateway(connection: Connection, site: str, name: str) -> int | None:
    """Return the number of a gateway that was heard before."""
    table = tables.gateway
    return connection.scalar(select(table.c.id).where(table.c.site == site, table.c.name == name))


def list_gateways(connection: Connection, sites: Sites = ALL_SITES) -> list[GatewayView]:
    """Return the gateways of some sites, each with its backlog and its roster."""
    table, roster = tables.gateway, tables.roster_generation
    since_ms = now_ms() - ALARM_SHOWN_MS
    marks = {(topics.site, topics.gateway): mark.upto for topics, mark in stored_watermarks(connection)}
    newest = select(roster.c.site, func.max(roster.c.version).label("version")).group_by(roster.c.site).subquery()
    query = (
        select(table, newest.c.version)
        .outerjoin(newest, newest.c.site == table.c.site)
        .where(sites.hold(table.c.site))
        .order_by(table.c.site, table.c.name)
    )
    return [
        GatewayView(
            site=row.site,
            name=row.name,
            state=row.state,
            boot=row.boot,
            epoch=row.epoch,
            software=row.software,
            waiting=max(0, row.head - marks.get((row.site, row.name), 0)),
            upto=marks.get((row.site, row.name), 0),
            roster=row.roster,
            roster_newest=row.version,
            seen_ms=row.seen_ms,
            live_ms=row.live_ms,
            alarm=row.alarm if row.twin_ms is not None or (row.alarm_ms or 0) > since_ms else None,
            verdict=row.verdict,
            verdict_sentence=row.verdict_sentence or "",
            verdict_remedy=row.verdict_remedy or "",
            verdict_ms=row.verdict_ms,
        )
        for row in connection.execute(query)
    ]
