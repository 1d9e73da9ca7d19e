"""Cards that were tapped and belong to nobody: given to a person, or blocked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, and_, func, select

from gateway.errors import RefusedError
from gateway.hub.directory.cards import block_card, link_card
from gateway.hub.directory.people import PersonView, find_people
from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.hub.web.queries import site_days
from gateway.webkit.problems import Problem

_Keeper = Annotated[Scope, need(Right.CARDS)]
_Tap = Annotated[str, Form(max_length=120, pattern=r"^\d{1,18}/[A-Za-z0-9_-]{1,63}/\d{1,18}$")]
_SINCE_MS = 30 * 24 * 3600 * 1000
_MOST = 100
_PEOPLE = 20


@dataclass(frozen=True, slots=True)
class UnknownCard:
    """A card that nobody has; `tap` names its newest tap, never its key."""

    site: str
    tail: str
    point: str
    gateway: str
    at: datetime
    count: int
    tap: str


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.get("/cards/unknown", include_in_schema=False)
    def unknown(
        request: Request,
        scope: _Keeper,
        tap: Annotated[str, Query(max_length=120)] = "",
        text: Annotated[str, Query(max_length=100)] = "",
    ) -> Response:
        with store.read() as connection:
            cards = list_unknown(scope, connection)
            chosen = next((item for item in cards if item.tap == tap), None)
            sites = scope.sites(Right.CARDS)
            people: list[PersonView] = []
            if chosen is not None and text.strip():
                people, _ = find_people(sites, connection, site=chosen.site, text=text, limit=_PEOPLE)
        context = {"cards": cards, "chosen": chosen, "text": text, "people": people}
        return office.site.page(request, "unknown_cards.html", "Unknown cards", context)

    @office.app.get("/v1/cards/unknown")
    def unknown_json(scope: _Keeper) -> dict[str, Any]:
        """Return the cards tapped in the last 30 days that belong to nobody, the newest first."""
        with store.read() as connection:
            return {"cards": [asdict(item) for item in list_unknown(scope, connection)]}

    @office.app.post("/cards/unknown/link", include_in_schema=False)
    def link(scope: _Keeper, tap: _Tap, person: Annotated[str, Form(max_length=18)]) -> Response:
        with store.write() as connection:
            row = _tapped(scope, connection, tap)
            site = connection.scalar(select(tables.person.c.site).where(tables.person.c.ref == person))
            if site != row.site:
                raise Problem(404, "not-found", "No such person", "There is no such person here; reload the page.")
            audit = Audit(scope.actor, row.site, now_ms())
            link_card(connection, person, row.card_key, row.tail or "", "uid", audit)
            audit.write(connection)
        return RedirectResponse(f"/people/{person}", 303)

    @office.app.post("/cards/unknown/block", include_in_schema=False)
    def block(scope: _Keeper, tap: _Tap) -> Response:
        with store.write() as connection:
            row = _tapped(scope, connection, tap)
            audit = Audit(scope.actor, row.site, now_ms())
            block_card(connection, row.card_key, row.tail or "", audit)
            audit.write(connection)
        return RedirectResponse("/cards/unknown", 303)


def _tapped(scope: Scope, connection: Connection, tap: str) -> Any:
    gateway, epoch, seq = tap.split("/")
    event = tables.event
    query = select(event.c.site, event.c.card_key, event.c.tail)
    one = (event.c.gateway == int(gateway), event.c.epoch == epoch, event.c.seq == int(seq))
    row = connection.execute(query.where(*one, event.c.card_key.is_not(None))).one_or_none()
    require_site(scope, Right.CARDS, row.site if row else None, "card")
    if row is None:
        raise RefusedError("There is no such card; reload the page.")
    return row


def list_unknown(scope: Scope, connection: Connection) -> list[UnknownCard]:
    """Return the cards that were tapped in the last 30 days and belong to nobody, the newest first."""
    event, card, gateway = tables.event, tables.card, tables.gateway
    unmatched = and_(event.c.person.is_(None), event.c.card_key.is_not(None), event.c.kind == "tap")
    newest = (
        select(event.c.site, event.c.card_key, func.max(event.c.at_ms).label("at_ms"), func.count().label("times"))
        .outerjoin(card, and_(card.c.site == event.c.site, card.c.key == event.c.card_key))
        .where(unmatched, card.c.id.is_(None), event.c.at_ms >= now_ms() - _SINCE_MS)
        .where(scope.sites(Right.CARDS).hold(event.c.site))
        .group_by(event.c.site, event.c.card_key)
        .order_by(func.max(event.c.at_ms).desc())
        .limit(_MOST)
        .subquery()
    )
    same = and_(
        event.c.site == newest.c.site, event.c.card_key == newest.c.card_key, event.c.at_ms == newest.c.at_ms, unmatched
    )
    query = (
        select(event, gateway.c.name.label("gateway_name"), newest.c.times)
        .join_from(newest, event, same)
        .join(gateway, gateway.c.id == event.c.gateway)
        .order_by(event.c.at_ms.desc())
    )
    days = site_days(connection)
    found: dict[tuple[str, str], UnknownCard] = {}
    for row in connection.execute(query):
        tap = f"{row.gateway}/{row.epoch}/{row.seq}"
        at = from_ms(row.at_ms, days[row.site].zone)
        view = UnknownCard(row.site, row.tail or "", row.point or "", row.gateway_name, at, row.times, tap)
        found.setdefault((row.site, row.card_key), view)
    return list(found.values())
