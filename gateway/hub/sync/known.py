"""What the directory knows about one source, loaded once for a plan."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from gateway.hub.store import tables

KEY = "key"
STABLE = "stable"


@dataclass(frozen=True, slots=True)
class KnownPerson:
    ref: str
    person_key: str
    role: str
    given_name: str
    family_name: str
    groups: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card of the site, from any source or linked by hand."""

    key: str
    tail: str
    person: str | None
    state: str
    state_by: str
    origin: str

    @property
    def usable(self) -> bool:
        return self.state in {"active", "prelinked"}


@dataclass(slots=True)
class Known:
    """The people of one source and all cards of its site.

    Attributes:
        origin: how cards of this source are marked.
        ids: (namespace, value) -> (person, retired).
    """

    origin: str
    people: dict[str, KnownPerson] = field(default_factory=dict)
    ids: dict[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)
    stable_of: dict[str, str] = field(default_factory=dict)
    cards: dict[str, KnownCard] = field(default_factory=dict)
    cards_of: dict[str, list[KnownCard]] = field(default_factory=lambda: defaultdict(list))

    def add_card(self, card: KnownCard) -> None:
        self.cards[card.key] = card
        if card.person:
            self.cards_of[card.person].append(card)


def load_known(connection: Connection, site: str, source: int) -> Known:
    """Load everything a plan is compared with."""
    known = Known(origin_of(source))
    person = tables.person
    columns = (
        person.c.ref,
        person.c.person_key,
        person.c.role,
        person.c.given_name,
        person.c.family_name,
        person.c.groups,
        person.c.active,
    )
    for ref, key, role, given, family, groups, active in connection.execute(
        select(*columns).where(person.c.source == source)
    ):
        known.people[ref] = KnownPerson(ref, key, role, given, family, tuple(groups), active)
    identity = tables.identity
    query = select(identity.c.namespace, identity.c.value, identity.c.person, identity.c.retired_ms)
    for namespace, value, ref, retired_ms in connection.execute(query.where(identity.c.source == source)):
        known.ids[namespace, value] = (ref, retired_ms is not None)
        if namespace == STABLE and retired_ms is None:
            known.stable_of[ref] = value
    card = tables.card
    for row in connection.execute(
        select(card.c.key, card.c.tail, card.c.person, card.c.state, card.c.state_by, card.c.origin).where(
            card.c.site == site
        )
    ):
        known.add_card(KnownCard(*row))
    return known


def origin_of(source: int) -> str:
    return f"source:{source}"
