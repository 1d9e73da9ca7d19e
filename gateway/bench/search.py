"""Search for people among 100,000, a page of the answer and how many there are, against the search before it.

What is typed is drawn from the people themselves: the beginning of a family name, names in either order, without their
accents, ids, forms, tails of cards, and a name that nobody has. The peer looks for `LIKE '%word%'` in the folded name,
in one pass for the number and another for the page; it knows neither forms nor cards.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, text

from gateway.hub.directory.effective import row_of
from gateway.hub.directory.names import fold
from gateway.hub.directory.people import find_people
from gateway.hub.scope import ALL_SITES
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, open_store
from gateway.mis.base import PersonFields
from gateway.simulator.school import SchoolPerson, sample_school

PEOPLE = 100_000
_SITE = "bench"
_SEARCHES = 400
_PAGE_ROWS = 50
_STAFF_SHARE = 16
_BATCH = 5_000

# What people type to find somebody; `draw` cuts names at a random letter.
TYPED: dict[str, Callable[[random.Random, SchoolPerson, str], str]] = {
    "beginning of a family name": lambda draw, person, _: person.family_name[: draw.randint(2, 5)],
    "given name": lambda _, person, __: person.given_name,
    "given and family name": lambda _, person, __: f"{person.given_name} {person.family_name}",
    "family name and initial": lambda _, person, __: f"{person.family_name} {person.given_name[:1]}",
    "name without accents": lambda _, person, __: fold(f"{person.given_name} {person.family_name}"),
    "id": lambda _, person, __: person.person_key,
    "form": lambda _, person, __: person.group.lower(),
    "given name and form": lambda _, person, __: f"{person.given_name} {person.group}",
    "tail of a card": lambda _, __, tail: tail,
    "nobody": lambda _, __, ___: "Xyzzy",
}


def run_bench(people: int = PEOPLE, database: str = "sqlite:///hub.db") -> dict[str, Any]:
    """Measure ours and the peer in turns.

    Args:
        database: an empty one, as `database` in hub.toml.
    """
    draw = random.Random(4)
    with tempfile.TemporaryDirectory() as folder, open_store(database, Path(folder)) as store:
        store.migrate()
        found = fill(store, people, draw)
        ours: dict[str, list[float]] = {kind: [] for kind in TYPED}
        peer: dict[str, list[float]] = {kind: [] for kind in TYPED}
        for _ in range(_SEARCHES // len(TYPED)):
            for kind, typed in TYPED.items():
                person, tail = draw.choice(found)
                words = typed(draw, person, tail)
                ours[kind].append(_timed_ms(store, words, _find))
                peer[kind].append(_timed_ms(store, words, find_with_like))
    both = [[value for values in side.values() for value in values] for side in (ours, peer)]
    return {
        "name": "search",
        "unit": "ms for a page of 50 and the total",
        "ours": {"people": len(found), **_spread(both[0]), **{f"p95, {kind}": _p95(ours[kind]) for kind in TYPED}},
        "peers": {"LIKE '%word%', counted, then read": _spread(both[1])},
        "ratio": round(statistics.median(both[1]) / statistics.median(both[0]), 1),
    }


def fill(store: Store, people: int, draw: random.Random) -> list[tuple[SchoolPerson, str]]:
    """Write a school of so many people with a card each; returns each with the tail of the card."""
    pupils = people - people // (_STAFF_SHARE + 1)
    some = [(person, draw.randbytes(2).hex().upper()) for person in sample_school(pupils, seed=4).people]
    rows, cards = [], []
    for number, (person, tail) in enumerate(some):
        ref = f"p_{number:016x}"
        form, year = person.group, person.group[:-1] if person.role == "student" else None
        fields = PersonFields(person.role, person.given_name, person.family_name, form=form, year=year)
        own = {"ref": ref, "site": _SITE, "state": "active", "created_ms": 0, "changed_ms": 0}
        rows.append(own | row_of(person.person_key, fields))
        card = {"site": _SITE, "key": f"{number:032x}", "tail": tail, "projection": "uid", "person": ref}
        by = {"state": "active", "state_by": "bench", "origin": "bench", "created_ms": 0, "changed_ms": 0}
        cards.append(card | by)
    with store.write() as connection:
        site = {"id": _SITE, "name": "Bench", "timezone": "UTC", "key_file": "none", "edited": False}
        connection.execute(insert(tables.site).values(**site))
        for start in range(0, len(rows), _BATCH):
            connection.execute(insert(tables.person), rows[start : start + _BATCH])
            connection.execute(insert(tables.card), cards[start : start + _BATCH])
        connection.execute(text("ANALYZE"))
    return some


def _find(connection: Connection, words: str) -> int:
    return find_people(ALL_SITES, connection, text=words, limit=_PAGE_ROWS)[1]


def find_with_like(connection: Connection, words: str) -> int:
    """Find people as the search before this one did; returns how many."""
    person = tables.person
    names = [person.c.sort_name.contains(word, autoescape=True) for word in fold(words).split()[:5]]
    query = select(person).where(or_(person.c.person_key == words, person.c.ref == words, and_(True, *names)))
    total = connection.scalar(select(func.count()).select_from(query.subquery())) or 0
    page = connection.execute(query.order_by(person.c.sort_name, person.c.ref).limit(_PAGE_ROWS)).all()
    cards = tables.card.select().where(tables.card.c.person.in_([row.ref for row in page]))
    connection.execute(cards).all()
    return total


def _timed_ms(store: Store, words: str, find: Callable[[Connection, str], int]) -> float:
    started = time.perf_counter_ns()
    with store.read() as connection:
        find(connection, words)
    return (time.perf_counter_ns() - started) / 1e6


def _p95(values: Sequence[float]) -> float:
    return round(sorted(values)[len(values) * 95 // 100], 1)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(values), 1), "p95": _p95(values), "max": round(max(values), 1)}
