"""Tells the kiosks of each site who has signed in today, wherever that was.

Sent again after each connect, when a movement changed it, and at midnight; never more than every two seconds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from gateway.hub.ingest.seals import read_site_keys
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.work.times import day_bounds
from gateway.link.client import Link
from gateway.link.messages import PRESENCE_PURPOSE, Present, SealedPresence, encode
from gateway.link.topics import site_presence
from gateway.roster.signing import Signer

PAUSE_SECONDS = 2.0
_PROJECTOR = "presence"


class PresencePublisher:
    """Belongs to the thread of the fleet service."""

    def __init__(self, store: Store, signer: Signer, *, clock: Callable[[], int] = now_ms) -> None:
        self._store, self._signer, self._clock = store, signer, clock
        self._sent: dict[str, Any] = {}
        self._looked_at = float("-inf")

    def start_over(self) -> None:
        """Send everything again: the broker may have forgotten it."""
        self._sent.clear()
        self._looked_at = float("-inf")

    def turn(self, link: Link) -> None:
        """Publish what has changed.

        Raises:
            StoreUnavailable: the database does not answer; what is due stays due.
        """
        now = time.monotonic()
        if now - self._looked_at < PAUSE_SECONDS:
            return
        self._looked_at = now
        at_ms = self._clock()
        with self._store.read() as connection:
            table = tables.site.c
            zones = {row.id: ZoneInfo(row.timezone) for row in connection.execute(select(table.id, table.timezone))}
            stamps = _stamps(connection, zones, at_ms)
            due = [site for site, stamp in stamps.items() if self._sent.get(site) != stamp]
            found = {site: _read(connection, site, zones[site], stamps[site][0], at_ms) for site in due}
        keys = read_site_keys(self._store, found.keys()) if found else {}
        for site, present in found.items():
            if (key := keys.get(site)) is None:
                continue
            body = encode(present).decode()
            sealed = SealedPresence(body, self._signer.seal_statement(key, PRESENCE_PURPOSE, body))
            if link.publish(site_presence(site), encode(sealed), retain=True) is not None:
                self._sent[site] = stamps[site]


def _stamps(connection: Connection, zones: Mapping[str, ZoneInfo], at_ms: int) -> dict[str, tuple[date, int, int, int]]:
    """Return for each site with movements what tells whether its list may have changed, the local day first."""
    projection, gateway, hand = tables.projection.c, tables.gateway.c, tables.hand_movement.c
    followed = select(gateway.site, func.sum(projection.upto)).join_from(
        tables.projection, tables.gateway, gateway.id == projection.gateway
    )
    rows = connection.execute(followed.where(projection.name == _PROJECTOR).group_by(gateway.site))
    upto = {site: int(total) for site, total in rows}
    by_hand = select(hand.site, func.max(hand.id), func.count(hand.withdrawn_ms)).group_by(hand.site)
    entered = {site: (newest, withdrawn) for site, newest, withdrawn in connection.execute(by_hand)}
    return {
        site: (from_ms(at_ms, zone).date(), upto.get(site, 0), *entered.get(site, (0, 0)))
        for site, zone in zones.items()
        if site in upto or site in entered
    }


def _read(connection: Connection, site: str, zone: ZoneInfo, day: date, at_ms: int) -> Present:
    midnight_ms = to_ms(day_bounds(day, zone)[0])
    table = tables.presence.c
    people = select(table.person).where(table.site == site, table.state == "in", table.since_ms >= midnight_ms)
    projection, gateway = tables.projection.c, tables.gateway.c
    followed = (
        select(gateway.name, projection.epoch, projection.upto)
        .join_from(tables.projection, tables.gateway, gateway.id == projection.gateway)
        .where(projection.name == _PROJECTOR, gateway.site == site)
    )
    covered: dict[str, dict[str, int]] = defaultdict(dict)
    for name, epoch, upto in connection.execute(followed):
        covered[name][epoch] = upto
    return Present(site, day.isoformat(), at_ms, sorted(connection.scalars(people)), dict(covered))
