"""What the directory knows when one source is compared with it, loaded once for a plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from gateway.hub.store import tables
from gateway.mis.base import PersonFields

KEY = "key"
_SHORT = 32
STABLE = "stable"
PRESENT, MISSING, OUT, GONE = "present", "missing", "out", "gone"

_decode = msgspec.json.Decoder(PersonFields).decode


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """A person of the site, whoever brought them."""

    ref: str
    person_key: str
    role: str
    given_name: str
    family_name: str
    birth_date: date | None
    state: str
    email: str | None = None

    @property
    def name(self) -> str:
        return f"{self.given_name} {self.family_name}".strip()


@dataclass(frozen=True, slots=True)
class KnownClaim:
    """What this source said of a person when it was last applied; `data` is the stored text of `fields`."""

    person: str
    entity: str
    person_key: str
    stable_id: str | None
    state: str
    data: str
    missing_since_ms: int | None

    @property
    def fields(self) -> PersonFields:
        return _decode(self.data)


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card of the site, from any source or linked by hand."""

    key: str
    tail: str
    person: str | None
    state: str
    state_by: str
    origin: str
    waiting_for: str | None = None
    projection: str = "uid"

    @property
    def usable(self) -> bool:
        return self.state in {"active", "prelinked"}


@dataclass(frozen=True, slots=True)
class Id:
    """An id that this source uses or used; a retired one is never anybody else's."""

    person: str
    retired: bool


@dataclass(frozen=True, slots=True)
class Solution:
    """What somebody decided about a conflict, for exactly what the source said then (`about`)."""

    about: str
    solution: str
    person: str | None


@dataclass(slots=True)
class Known:
    """One source's claims, all people and cards of its site.

    Attributes:
        origin: how cards of this source are marked.
        claims: by reference.
        elsewhere: whom another source brings too.
        ids: (entity, namespace, value) -> whose it is.
        other_ids: the same for the other sources of the site, retired ones left out.
        solutions: by (entity, person_key).
    """

    origin: str
    people: dict[str, KnownPerson] = field(default_factory=dict)
    claims: dict[str, KnownClaim] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    ids: dict[tuple[str, str, str], Id] = field(default_factory=dict)
    other_ids: dict[tuple[str, str, str], str] = field(default_factory=dict)
    cards: dict[str, KnownCard] = field(default_factory=dict)
    cards_of: dict[str, list[KnownCard]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[str, list[KnownCard]] = field(default_factory=lambda: defaultdict(list))
    solutions: dict[tuple[str, str], Solution] = field(default_factory=dict)

    def add_card(self, card: KnownCard) -> None:
        self.cards[card.key] = card
        if card.person:
            self.cards_of[card.person].append(card)
        elif card.waiting_for:
            self.waiting[card.waiting_for].append(card)

    @property
    def present(self) -> int:
        """Return how many people this source still brings."""
        return sum(claim.state != GONE for claim in self.claims.values())


def claim_data(fields: PersonFields) -> str:
    """Return the stored text of what a source says about a person; equal texts say the same."""
    return msgspec.json.encode(fields, order="deterministic").decode()


def waits_for(entity: str, person_key: str) -> str:
    """Return how a card names the person it waits for."""
    return f"{entity}:{person_key}"


def load_known(connection: Connection, site: str, source: int, epoch: int = 1) -> Known:
    """Load everything a plan is compared with."""
    known = Known(origin_of(source))
    person, claim = tables.person.c, tables.person_claim.c
    names = (person.ref, person.person_key, person.role, person.given_name, person.family_name)
    people = select(*names, person.birth_date, person.state, person.email).where(person.site == site)
    shared = _Shared()
    for row in connection.execute(people):
        known.people[shared(row.ref)] = KnownPerson(*map(shared, row))
    columns_of_claim = (claim.person, claim.entity, claim.person_key, claim.stable_id, claim.state, claim.data)
    own = select(*columns_of_claim, claim.missing_since_ms).where(claim.source == source, claim.epoch == epoch)
    for one in connection.execute(own):
        known.claims[shared(one.person)] = KnownClaim(*map(shared, one))
    others = select(claim.person).join_from(tables.person_claim, tables.source, claim.source == tables.source.c.id)
    others = others.where(tables.source.c.site == site, claim.source != source, claim.state != GONE)
    known.elsewhere.update(map(shared, connection.scalars(others)))
    _load_ids(connection, known, site, source, epoch, shared)
    card = tables.card.c
    held = (card.key, card.tail, card.person, card.state, card.state_by, card.origin, card.waiting_for, card.projection)
    for each in connection.execute(select(*held).where(card.site == site)):
        known.add_card(KnownCard(*map(shared, each)))
    conflict = tables.conflict.c
    solved = select(conflict.entity, conflict.person_key, conflict.about, conflict.solution, conflict.person)
    solved = solved.where(conflict.source == source, conflict.state == "solved", conflict.solution.is_not(None))
    for entity, person_key, about, solution, ref in connection.execute(solved.order_by(conflict.id)):
        known.solutions[entity, person_key] = Solution(about, solution or "", ref)
    return known


class _Shared:
    """Keeps one copy of each short text: a driver makes a new one for every row, and references and states repeat."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) <= _SHORT:
            return self._texts.setdefault(value, value)
        return value


def _load_ids(
    connection: Connection, known: Known, site: str, source: int, epoch: int, shared: Callable[[Any], Any]
) -> None:
    identity, owner = tables.identity.c, tables.source.c
    query = select(
        identity.source,
        identity.epoch,
        identity.entity,
        identity.namespace,
        identity.value,
        identity.person,
        identity.retired_ms,
    ).join_from(tables.identity, tables.source, owner.id == identity.source)
    for row in connection.execute(query.where(owner.site == site)):
        of, in_epoch, entity, namespace, value, ref, retired_ms = map(shared, row)
        if (of, in_epoch) == (source, epoch):
            known.ids[entity, namespace, value] = Id(ref, retired_ms is not None)
        elif retired_ms is None:
            known.other_ids[entity, namespace, value] = ref


def origin_of(source: int) -> str:
    return f"source:{source}"
