"""People: found by name, id, form, year, reference or the tail of a card, with their cards."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, false, func, or_, select

from gateway.hub.directory.names import search_words
from gateway.hub.scope import Sites
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices

_REF = re.compile(r"p_[0-9a-f]{16}")
_TAIL = re.compile(r"[0-9a-f]{4}")
_MOST_WORDS = 8


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
    within: Sites | ColumnElement[bool],
    connection: Connection,
    *,
    site: str | None = None,
    text: str = "",
    refs: list[str] | None = None,
    role: str | None = None,
    state: str | None = None,
    group: int | None = None,
    offset: int = 0,
    limit: int = 50,
) -> tuple[list[PersonView], int]:
    """Find people in name order, with the total number found (see `answers`).

    Args:
        within: some sites, or a condition on `person` such as `Scope.rows`.
        group: the number of a group (directory.groups) that they are in now.
    """
    person = tables.person
    order = (person.c.sort_name, person.c.ref)
    query = select(person.c.ref).where(within.hold(person.c.site) if isinstance(within, Sites) else within)
    if site:
        query = query.where(person.c.site == site)
    if refs is not None:
        query = query.where(person.c.ref.in_(refs))
    if role:
        query = query.where(person.c.role == role)
    if state:
        query = query.where(person.c.state == state)
    if group is not None:
        member = tables.membership.c
        now = select(member.person).where(member.grouping == group, member.until_ms.is_(None))
        query = query.where(person.c.ref.in_(now))
    if text.strip():
        query = query.where(answers(text))
    counted = select(func.count()).select_from(query.subquery())
    # A search reads every row and counts in the same pass; everybody is counted faster in an index.
    total = func.count().over() if text.strip() else counted.scalar_subquery()
    some = query.add_columns(person.c.sort_name, total.label("total")).order_by(*order).offset(offset).limit(limit)
    page = some.subquery()
    found = select(person, page.c.total).join(page, page.c.ref == person.c.ref).order_by(*order)
    rows = connection.execute(found).all()
    if not rows and offset:
        return [], connection.scalar(counted) or 0
    return _views(connection, rows), rows[0].total if rows else 0


def answers(text: str) -> ColumnElement[bool]:
    """Return the condition on `person` that a search for `text` sets.

    Each word, in any order, begins a word of the name, the id, the form or the year, or is the tail of a card; a whole
    reference finds its person.
    """
    person, card = tables.person.c, tables.card.c
    if _REF.fullmatch(text.strip()):
        return person.ref == text.strip()
    conditions = []
    for word in search_words(text)[:_MOST_WORDS]:
        begins = person.search_text.contains(f" {word}", autoescape=True)
        if _TAIL.fullmatch(word):
            begins = or_(begins, person.ref.in_(select(card.person).where(card.tail == word.upper())))
        conditions.append(begins)
    return and_(*conditions) if conditions else false()


def _views(connection: Connection, rows: Sequence[Row[Any]]) -> list[PersonView]:
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
