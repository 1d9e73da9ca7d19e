"""People: found by name, id or reference, with their cards."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from gateway.hub.directory.names import fold
from gateway.hub.scope import Sites
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices


def new_ref() -> str:
    """Return a new random reference; it reveals nothing about the person, and gateways see no other name."""
    return f"p_{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class CardView:
    """A card as pages show it: its tail, never its key or number."""

    id: int
    tail: str
    state: str
    projection: str


@dataclass(frozen=True, slots=True)
class PersonView:
    ref: str
    site: str
    person_key: str
    role: str
    given_name: str
    family_name: str
    groups: tuple[str, ...]
    state: str
    cards: tuple[CardView, ...]

    @property
    def name(self) -> str:
        return f"{self.given_name} {self.family_name}".strip()


def find_people(
    sites: Sites,
    connection: Connection,
    *,
    site: str | None = None,
    text: str = "",
    refs: list[str] | None = None,
    offset: int = 0,
    limit: int = 50,
) -> tuple[list[PersonView], int]:
    """Find people of some sites in name order, with the total found; accents and case of `text` do not matter."""
    person = tables.person
    query = select(person).where(sites.hold(person.c.site))
    if site:
        query = query.where(person.c.site == site)
    if refs is not None:
        query = query.where(person.c.ref.in_(refs))
    if text:
        query = query.where(_holds(text))
    total = connection.scalar(select(func.count()).select_from(query.subquery())) or 0
    ordered = query.order_by(person.c.sort_name, person.c.ref)
    return _views(connection, ordered.offset(offset).limit(limit)), total


def _holds(text: str) -> ColumnElement[bool]:
    person = tables.person
    words = [person.c.sort_name.contains(word, autoescape=True) for word in fold(text).split()[:5]]
    return or_(person.c.person_key == text.strip(), person.c.ref == text.strip(), and_(True, *words))


def _views(connection: Connection, query: Select[tuple[object, ...]]) -> list[PersonView]:
    rows = connection.execute(query).all()
    cards: dict[str, list[CardView]] = {row.ref: [] for row in rows}
    card = tables.card
    for some in in_slices(cards):
        for row in connection.execute(select(card).where(card.c.person.in_(some)).order_by(card.c.state, card.c.id)):
            cards[row.person].append(CardView(row.id, row.tail, row.state, row.projection))
    return [
        PersonView(
            row.ref,
            row.site,
            row.person_key,
            row.role,
            row.given_name,
            row.family_name,
            tuple(row.groups),
            row.state,
            tuple(cards[row.ref]),
        )
        for row in rows
    ]
