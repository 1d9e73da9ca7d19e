"""Reads of sources as short lines, and a site that applies them: shared by the tests of who is who."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import insert, select

from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store
from gateway.hub.sync import conflicts
from gateway.hub.sync.apply import Applier
from gateway.hub.sync.feed import Feed, gather
from gateway.hub.sync.guard import Limits, Verdict, judge
from gateway.hub.sync.known import Known, load_known
from gateway.hub.sync.operations import Plan
from gateway.hub.sync.plan import Rules, make_plan
from gateway.mis.base import Capabilities, CardClaim, Complete, FeedItem, PersonFields, Record, Shape
from tests.hub.samples import SITE

CAN = Capabilities(removes_staff=True)


def claim(name: str) -> CardClaim:
    return CardClaim(hashlib.blake2b(name.encode(), digest_size=16).hexdigest(), name[-4:].upper(), "uid")


def row(
    key: str,
    name: str = "",
    *cards: str,
    born: str | None = None,
    lasting: str | None = None,
    role: str = "student",
    group: str | None = "7B",
    says_cards: bool = True,
    place: str = "",
    **fields: Any,
) -> Record:
    """Make one row; the first word of `name` is the given name."""
    given_name, _, family_name = (name or f"Given{key} Family{key}").partition(" ")
    groups = None if group is None else (group,)
    born_on = date.fromisoformat(born) if born else None
    said = PersonFields(role, given_name, family_name, groups, birth_date=born_on, **fields)
    claims = tuple(claim(card) for card in cards) if says_cards else None
    return Record(key, said, claims, place or f"line {key}", lasting)


@dataclass(slots=True)
class Site:
    """A site with any number of sources, driven without files and schedules."""

    store: Store
    at_ms: int = 1_000
    sources: dict[str, int] = field(default_factory=dict)
    can: Capabilities = CAN
    rules: dict[str, Rules] = field(default_factory=dict)

    def source(self, name: str = "mis") -> int:
        if name not in self.sources:
            with self.store.write() as connection:
                values = {"site": SITE, "name": name, "kind": "csv", "options": {}}
                added = insert(tables.source).values(values).returning(tables.source.c.id)
                self.sources[name] = int(connection.scalar(added) or 0)
        return self.sources[name]

    def known(self, source: str = "mis") -> Known:
        number = self.source(source)
        with self.store.read() as connection:
            return load_known(connection, SITE, number)

    def feed(self, items: Iterable[FeedItem], *, complete: bool = True, shape: Iterable[str] = ()) -> Feed:
        head: list[FeedItem] = [Shape({name: name for name in shape})] if shape else []
        return gather([*head, *items, *([Complete()] if complete else [])])

    def plan(self, *items: FeedItem, source: str = "mis", complete: bool = True, shape: Iterable[str] = ()) -> Plan:
        feed = self.feed(items, complete=complete, shape=shape)
        return make_plan(
            feed, self.known(source), self.can, self.at_ms, self.rules.get(source, Rules(pupil_emails=True))
        )

    def judge(self, *items: FeedItem, source: str = "mis") -> tuple[Plan, Verdict]:
        feed, known = self.feed(items), self.known(source)
        plan = make_plan(feed, known, self.can, self.at_ms, self.rules.get(source, Rules(pupil_emails=True)))
        return plan, judge(plan, feed, known, Limits())

    def apply(self, *items: FeedItem, source: str = "mis", complete: bool = True, shape: Iterable[str] = ()) -> Plan:
        plan = self.plan(*items, source=source, complete=complete, shape=shape)
        self.at_ms += 1_000
        number = self.source(source)
        with self.store.write() as connection:
            audit = Audit(f"source:{number}", SITE, self.at_ms)
            Applier(connection, SITE, number, audit, "active").apply(plan.operations)
            conflicts.keep(connection, number, 1, plan.conflicts, is_complete=complete)
        return plan

    def answer(self, solution: str) -> None:
        with self.store.read() as connection:
            (open_one,) = conflicts.list_open(connection)
        conflicts.solve(self.store, open_one.id, solution, "person:office")

    def people(self) -> set[tuple[str, str, str, str]]:
        """Return (role, person_key, name, state) of everybody."""
        person = tables.person.c
        with self.store.read() as connection:
            rows = connection.execute(select(tables.person).order_by(person.person_key))
            return {(one.role, one.person_key, f"{one.given_name} {one.family_name}", one.state) for one in rows}

    def refs(self) -> dict[tuple[str, str], str]:
        person = tables.person.c
        with self.store.read() as connection:
            rows = connection.execute(select(person.role, person.person_key, person.ref))
            return {(role, key): ref for role, key, ref in rows}

    def person(self, key: str, role: str = "student") -> Any:
        person = tables.person.c
        with self.store.read() as connection:
            return connection.execute(select(tables.person).where(person.person_key == key, person.role == role)).one()

    def emails(self) -> dict[str, str | None]:
        person = tables.person.c
        with self.store.read() as connection:
            rows = connection.execute(select(person.person_key, person.email))
            return {row.person_key: row.email for row in rows}

    def cards(self) -> dict[str, tuple[str | None, str]]:
        card, person = tables.card, tables.person
        query = select(card.c.tail, card.c.state, person.c.person_key)
        with self.store.read() as connection:
            rows = connection.execute(query.outerjoin(person, person.c.ref == card.c.person))
            return {one.tail: (one.person_key, one.state) for one in rows}


def kinds(plan: Plan) -> list[str]:
    return [operation.kind for operation in plan.operations]


def troubles(plan: Plan) -> list[str]:
    return [conflict.kind for conflict in plan.conflicts]
