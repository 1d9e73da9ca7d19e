"""A year of school life through an export: whatever happens, the directory ends as the last file says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.hub.directory.sites import PERCENT_OPTIONS, list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.sync.holds import decide, list_held
from gateway.hub.sync.run import Report, Wish, sync

NIGHTS = 60
HEADER = "Student ID,Forename,Surname,Form,Email,Card,UPN\n"
OPEN = "".join(f"{name} = 100\n" for name in sorted(PERCENT_OPTIONS))
TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "school"
site_key_file = "site.key"
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
"""


class School:
    """The school's own records, and their export."""

    def __init__(self, folder: Path, seed: int, options: str = OPEN) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        (folder / "site.key").write_text("5a" * 32)
        (folder / "hub.toml").write_text(TOML + options)
        self.people: dict[str, list[str]] = {}
        self.left: dict[str, list[str]] = {}
        self._next = 100
        for _ in range(50):
            self.join()
        self.store: Store = prepare_store(read_settings(folder / "hub.toml"))

    def _card(self) -> str:
        self._next += 1
        return f"04{self._next:06X}"

    def join(self) -> None:
        self._next += 1
        key = f"{self._next:05d}"
        form = f"{self.draw.randint(7, 11)}{self.draw.choice('ABC')}"
        self.people[key] = [f"Given{key}", f"Family{key}", form, f"p{key}@x.example", self._card(), f"U{key}"]

    def leave(self) -> None:
        key = self.draw.choice(sorted(self.people))
        self.left[key] = self.people.pop(key)

    def come_back(self) -> None:
        if self.left:
            key = self.draw.choice(sorted(self.left))
            self.people[key] = self.left.pop(key)

    def marry(self) -> None:
        self._any()[1] = f"Married{self._card()}"

    def move(self) -> None:
        self._any()[2] = f"{self.draw.randint(7, 11)}{self.draw.choice('ABC')}"

    def lose_card(self) -> None:
        self._any()[4] = self.draw.choice(["", self._card()])

    def get_new_id(self) -> None:
        key = self.draw.choice(sorted(self.people))
        self._next += 1
        self.people[f"N{self._next}"] = self.people.pop(key)

    def _any(self) -> list[str]:
        return self.people[self.draw.choice(sorted(self.people))]

    def night(self) -> None:
        acts = [self.join, self.leave, self.come_back, self.marry, self.move, self.lose_card, self.get_new_id]
        for act in self.draw.choices(acts, k=self.draw.randint(0, 6)):
            act()

    def sync(self, *, first: bool = False) -> Report:
        rows = [",".join([key, *values]) for key, values in self.people.items()]
        self.draw.shuffle(rows)
        (self.folder / "people.csv").write_text(HEADER + "\n".join(rows) + "\n")
        with self.store.read() as connection:
            (source,) = list_sources(connection)
        return sync(self.store, source, self.folder, Wish(first=first))

    def in_directory(self) -> dict[str, tuple[str, ...]]:
        person, card = tables.person, tables.card
        with self.store.read() as connection:
            cards = {
                row.person: row.tail
                for row in connection.execute(select(card.c.person, card.c.tail).where(card.c.state == "active"))
            }
            rows = connection.execute(select(person).where(person.c.state == "active"))
            return {
                row.person_key: (row.given_name, row.family_name, row.form, row.email, cards.get(row.ref, ""))
                for row in rows
            }

    def as_exported(self) -> dict[str, tuple[str, ...]]:
        return {key: (*values[:4], values[4][-4:]) for key, values in self.people.items()}


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_after_a_year_of_nights_the_directory_is_what_the_export_says(tmp_path: Path, seed: int) -> None:
    school = School(tmp_path, seed)
    school.sync(first=True)
    for _ in range(NIGHTS):
        school.night()
        school.sync()
    for _ in range(2):
        report = school.sync()
    assert report.plan.operations == []
    assert report.plan.conflicts == []
    assert school.in_directory() == school.as_exported()
    school.store.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_some_of_what_is_held_may_be_approved_in_any_order_and_nothing_else_is_applied(
    tmp_path: Path, seed: int
) -> None:
    school = School(tmp_path, seed, options="")
    school.sync(first=True)
    before = school.in_directory()
    for _ in range(20):
        school.leave()
    report = school.sync()
    assert (report.applied, report.held) == (0, 20)
    with school.store.read() as connection:
        (source,) = list_sources(connection)
        held = list_held(connection, source.id)
    chosen = school.draw.sample(held, school.draw.randint(1, 19))
    decide(school.store, source.id, "person:head", "approved", [item.op_hash for item in chosen])
    assert school.sync().applied == len(chosen)
    gone = {item.operation["person_key"] for item in chosen}
    assert before.keys() - school.in_directory().keys() == gone
    school.store.close()
