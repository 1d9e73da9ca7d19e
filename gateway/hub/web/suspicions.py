"""Cards that look like copies, by their answers or by where they were, for the gateways page and the metrics.

A card appears as its tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, literal, select, text

from gateway.hub.scope import Sites
from gateway.hub.store import tables
from gateway.hub.store.times import from_ms
from gateway.hub.web.queries import SiteDay, site_days
from gateway.hub.web.what import say_suspicion, say_two_places

SUSPICION_DAYS = 30
TWO_PLACES = "two_places"
_MOST = 50


@dataclass(frozen=True, slots=True)
class SuspicionView:
    """A card that looks like a copy.

    Attributes:
        reader: or the point, where the sign is `two_places`.
        sign: a value of cards.clones.Sign, or `two_places`.
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


def list_suspicions(sites: Sites, connection: Connection, now_ms: int) -> list[SuspicionView]:
    """Return the newest suspicions of some sites in the last SUSPICION_DAYS."""
    event, gateway = tables.event, tables.gateway
    query = (
        select(event, gateway.c.name.label("gateway_name"))
        .join_from(event, gateway)
        .where(_SUSPICIONS, event.c.at_ms >= now_ms - SUSPICION_DAYS * 86_400_000, sites.hold(event.c.site))
        .order_by(event.c.at_ms.desc())
        .limit(_MOST)
    )
    days = site_days(connection)
    found = [
        SuspicionView(
            row.site,
            row.gateway_name,
            row.reader or "",
            from_ms(row.at_ms, days[row.site].zone),
            row.tail or "",
            row.reason,
            say_suspicion(row.reader or row.gateway_name, row.tail, row.reason),
        )
        for row in connection.execute(query)
    ]
    found += _list_two_places(sites, connection, now_ms, days)
    return sorted(found, key=lambda item: item.at, reverse=True)[:_MOST]


def _list_two_places(
    sites: Sites, connection: Connection, now_ms: int, days: Mapping[str, SiteDay]
) -> list[SuspicionView]:
    table, gateway = tables.two_places, tables.gateway
    query = (
        select(table, gateway.c.name.label("gateway_name"))
        .join_from(table, gateway)
        .where(table.c.at_ms >= now_ms - SUSPICION_DAYS * 86_400_000, sites.hold(table.c.site))
        .order_by(table.c.at_ms.desc())
        .limit(_MOST)
    )
    return [
        SuspicionView(
            row.site,
            row.gateway_name,
            row.point,
            from_ms(row.at_ms, days[row.site].zone),
            row.tail or "",
            TWO_PLACES,
            say_two_places(row.point, row.other_point, row.tail),
        )
        for row in connection.execute(query)
    ]


def count_suspicions(connection: Connection) -> list[tuple[str, str, str, str, int]]:
    """Count the suspicions ever seen; returns site, gateway, reader, sign and how many."""
    event, gateway = tables.event, tables.gateway
    by = (event.c.site, gateway.c.name, func.coalesce(event.c.reader, ""), event.c.reason)
    counted = select(*by, func.count()).join_from(event, gateway).where(_SUSPICIONS).group_by(*by).order_by(*by)
    table = tables.two_places
    of_pair = (table.c.site, gateway.c.name, table.c.point)
    pairs = select(*of_pair, literal(TWO_PLACES), func.count()).join_from(table, gateway)
    both = [*connection.execute(counted), *connection.execute(pairs.group_by(*of_pair).order_by(*of_pair))]
    return [tuple(row) for row in both]
