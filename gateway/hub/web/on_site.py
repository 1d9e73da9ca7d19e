"""Who is on site: everybody who signed in today and not out, with the time and place that say so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request, Response
from sqlalchemy import Connection, or_, select

from gateway.hub.fleet.gateways import GatewayView, list_gateways
from gateway.hub.scope import Right, Scope, Sites
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.web.gate import need
from gateway.hub.web.office import Office
from gateway.hub.web.queries import site_days
from gateway.hub.work.times import day_bounds

_Warden = Annotated[Scope, need(Right.EMERGENCY)]


@dataclass(frozen=True, slots=True)
class OnSite:
    """A person who is in by the newest sign-in of theirs.

    Attributes:
        today: whether they signed in today; whoever did not sign out yesterday has probably left.
        is_sure: whether the time is that of a set clock.
        automatic: signed out by the end of the day, not by themselves; everybody else on the list is in.
    """

    site: str
    ref: str
    name: str
    role: str
    group: str
    since: datetime
    point: str
    gateway: str
    today: bool
    is_sure: bool
    automatic: bool = False


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.get("/on-site", include_in_schema=False)
    def on_site(request: Request, scope: _Warden) -> Response:
        with store.read() as connection:
            sites = scope.sites(Right.EMERGENCY)
            people, silent = _read(connection, sites)
            zones = {days.zone for name, days in site_days(connection).items() if name in sites}
        context = {
            "people": [item for item in people if item.today and not item.automatic],
            "left": [item for item in people if item.automatic],
            "earlier": [item for item in people if not item.today and not item.automatic],
            "silent": silent,
            "at": from_ms(now_ms(), zones.pop() if len(zones) == 1 else None),
            "changeable": scope.sites(Right.SEND_MARKS),
        }
        return office.site.page(request, "on_site.html", "On site", context)

    @office.app.get("/v1/on-site")
    def on_site_json(scope: _Warden) -> dict[str, Any]:
        """Return everybody who signed in and not out, whom only the end of today signed out, and gateways away."""
        with store.read() as connection:
            people, silent = _read(connection, scope.sites(Right.EMERGENCY))
        return {
            "people": [asdict(item) for item in people],
            "not_connected": [{"site": item.site, "gateway": item.name, "state": item.state} for item in silent],
        }


def _read(connection: Connection, sites: Sites) -> tuple[list[OnSite], list[GatewayView]]:
    presence, person, gateway = tables.presence, tables.person, tables.gateway
    query = (
        select(
            presence,
            person.c.given_name,
            person.c.family_name,
            person.c.role,
            person.c.form,
            person.c.year,
            person.c.department,
            gateway.c.name.label("gateway_name"),
        )
        .outerjoin_from(presence, gateway, gateway.c.id == presence.c.gateway)
        .outerjoin(person, (person.c.ref == presence.c.person) & (person.c.site == presence.c.site))
        .where(sites.hold(presence.c.site), or_(presence.c.state == "in", presence.c.automatic))
        .order_by(presence.c.site, person.c.sort_name, presence.c.person)
    )
    days, at_ms = site_days(connection), now_ms()
    midnights = {name: _midnight_ms(at_ms, day.zone) for name, day in days.items()}
    people = [
        OnSite(
            site=row.site,
            ref=row.person,
            name=f"{row.given_name or ''} {row.family_name or ''}".strip() or "not in the directory",
            role=row.role or "",
            group=row.form or row.year or row.department or "",
            since=from_ms(row.since_ms, days[row.site].zone),
            point=row.point or "",
            gateway=row.gateway_name or "by hand",
            today=row.since_ms >= midnights[row.site],
            is_sure=row.at_how == "set",
            automatic=row.state == "out",
        )
        for row in connection.execute(query)
        if row.state == "in" or row.since_ms >= midnights[row.site]
    ]
    return people, [item for item in list_gateways(connection, sites) if item.state != "ready"]


def _midnight_ms(at_ms: int, zone: Any) -> int:
    return to_ms(day_bounds(from_ms(at_ms, zone).date(), zone)[0])
