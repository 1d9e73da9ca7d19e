"""Somebody types what they know of a person, and the person is found; also in the logbook."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, select, text

from gateway.bench.search import TYPED, fill
from gateway.hub.directory.effective import row_of
from gateway.hub.directory.names import search_text
from gateway.hub.directory.people import find_people
from gateway.hub.ingest.commit import Committer
from gateway.hub.scope import ALL_SITES, everything
from gateway.hub.store import tables
from gateway.hub.store.engine import MIGRATIONS, Store, open_store
from gateway.hub.web.queries import LogFilter, read_log
from gateway.mis.base import PersonFields
from gateway.simulator.school import SchoolPerson, sample_school
from tests.hub.samples import SITE, message, tap
from tests.hub.sync.school_reads import Site, row

BOTH_DATABASES = True
MIGRATION = "0016"
REF = "p_" + "1" * 16
PEOPLE = {
    REF: ("00017", PersonFields("student", "Zoë", "O'Brien", form="7B", year="Year 7")),
    "p_" + "2" * 16: ("00018", PersonFields("student", "Ann", "García-Márquez", form="7A", year="Year 7")),
    "p_" + "3" * 16: ("S_1", PersonFields("staff", "Søren", "Łukasz", department="Science")),
    "p_" + "4" * 16: ("jo.day@x.example", PersonFields("student", "Jo", "Day", form="12B", year="Year 12")),
    "p_" + "5" * 16: ("4", PersonFields("student", "נועם", "בן־דוד (Dudi)", form="8 Red")),
}


def put(store: Store, people: dict[str, tuple[str, PersonFields]]) -> None:
    rest = {"site": SITE, "state": "active", "created_ms": 0, "changed_ms": 0}
    rows = [{"ref": ref, **rest, **row_of(person_key, fields)} for ref, (person_key, fields) in people.items()]
    with store.write() as connection:
        connection.execute(insert(tables.person), rows)


def keys(store: Store, typed: str, **limits: int) -> list[str]:
    with store.read() as connection:
        return [person.person_key for person in find_people(ALL_SITES, connection, text=typed, **limits)[0]]


@pytest.fixture
def school(store: Store) -> Store:
    put(store, PEOPLE)
    card = {"site": SITE, "key": "ab" * 16, "tail": "E5F6", "projection": "uid", "person": REF, "state": "replaced"}
    by = {"state_by": "source:1", "origin": "source:1", "created_ms": 0, "changed_ms": 0}
    with store.write() as connection:
        connection.execute(insert(tables.card).values(**card, **by))
        connection.execute(insert(tables.card).values(**{**card, "key": "cd" * 16, "person": None}, **by))
    return store


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("zoe", ["00017"]),
        ("ZOË", ["00017"]),
        ("o'brien", ["00017"]),
        ("O\u2019Brien", ["00017"]),
        ("obrien zo", ["00017"]),
        ("brien", ["00017"]),
        ("zo o'b", ["00017"]),
        ("marquez ann", ["00018"]),
        ("ann garcia-marquez", ["00018"]),
        ("garciamar", ["00018"]),
        ("lukasz soren", ["S_1"]),
        ("00017", ["00017"]),
        ("0001", ["00018", "00017"]),
        ("s_1", ["S_1"]),
        ("jo.day@x.example", ["jo.day@x.example"]),
        ("7b", ["00017"]),
        ("year 7", ["00018", "00017"]),
        ("7", ["00018", "00017"]),
        ("8 red", ["4"]),
        ("12b day", ["jo.day@x.example"]),
        ("e5f6", ["00017"]),
        ("...E5F6", ["00017"]),
        ("zoe e5f6 7b", ["00017"]),
        (REF, ["00017"]),
        (f" {REF} ", ["00017"]),
        ("נועם", ["4"]),
        ("דוד", ["4"]),
        ("dudi", ["4"]),
        ("ann zoe", []),
        ("e5f6 ann", []),
        ("17", []),
        ("rien", []),
        ("science", []),
        (REF[:-1], []),
        ("%", []),
        ("%_", []),
        ("0_017", []),
        ("...", []),
        ("x" * 100, []),
    ],
)
def test_a_person_is_found_by_what_people_know_of_them(school: Store, typed: str, found: list[str]) -> None:
    assert keys(school, typed) == found


def test_nothing_typed_is_everybody_and_every_page_says_how_many(school: Store) -> None:
    for typed, total in (("", 5), (" ", 5), ("year 7", 2)):
        for offset, rows in ((0, 1), (1, 1), (9, 0)):
            with school.read() as connection:
                page, count = find_people(ALL_SITES, connection, text=typed, offset=offset, limit=1)
            assert (len(page), count) == (rows, total)
    with school.read() as connection:
        assert find_people(ALL_SITES, connection, site="elsewhere", text="zoe") == ([], 0)
        assert [card.tail for card in find_people(ALL_SITES, connection, text="zoe")[0][0].cards] == ["E5F6"]


def test_everybody_of_a_school_with_difficult_names_is_found_by_whatever_is_typed(store: Store) -> None:
    draw = random.Random(1)
    people = fill(store, 340, draw)
    with store.read() as connection:
        for kind, typed in TYPED.items():
            for person, tail in people if kind == "given and family name" else draw.sample(people, 30):
                words = typed(draw, person, tail)
                found, total = find_people(ALL_SITES, connection, site="bench", text=words, limit=len(people))
                assert len(found) == total
                assert (person.person_key in {one.person_key for one in found}) is (kind != "nobody"), (kind, words)


def test_whoever_marries_or_gets_another_id_is_found_by_the_new_one_only(store: Store) -> None:
    site = Site(store)
    site.apply(row("1", "Ann Smith", lasting="U1", form="7B"))
    site.apply(row("2", "Ann Müller", lasting="U1", form="8B"))
    assert [keys(store, typed) for typed in ("muller", "ann", "2", "8b")] == [["2"]] * 4
    assert [keys(store, typed) for typed in ("smith", "1", "7b")] == [[]] * 3


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_people_of_the_release_before_are_found_after_its_upgrade(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url = "sqlite:///hub.db" if kind == "sqlite" else request.getfixturevalue("postgres").new_database()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    before = ScriptDirectory.from_config(config).get_revision(MIGRATION).down_revision
    people = sample_school(1_200).people
    with open_store(url, tmp_path) as opened:
        with opened.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, str(before))
            put_as_before(connection, people)
        opened.migrate()
        with opened.read() as connection:
            held = {row.person_key: row.search_text for row in connection.execute(select(tables.person))}
    assert held == {
        one.person_key: search_text(one.family_name, one.given_name, one.person_key, one.group) for one in people
    }


def put_as_before(connection: Connection, people: Iterable[SchoolPerson]) -> None:
    site = "INSERT INTO site (id, name, timezone, key_file, edited) VALUES ('s', 'S', 'UTC', 'k', false)"
    connection.execute(text(site))
    names = "ref, site, person_key, role, given_name, family_name, groups, form, state, created_ms, changed_ms"
    values = ":ref, 's', :person_key, 'student', :given_name, :family_name, '[]', :form, 'active', 0, 0"
    rows = [
        {
            "ref": f"p_{number:016x}",
            "person_key": person.person_key,
            "given_name": person.given_name,
            "family_name": person.family_name,
            "form": person.group,
        }
        for number, person in enumerate(people)
    ]
    connection.execute(text(f"INSERT INTO person ({names}) VALUES ({values})"), rows)


def test_the_logbook_shows_the_taps_of_everybody_who_is_found_however_many_they_are(store: Store) -> None:
    refs = [f"p_{number:016x}" for number in range(260)]
    put(store, {ref: (ref[-3:], PersonFields("student", "Jo", f"Smith {ref[-3:]}")) for ref in refs})
    put(store, {"p_" + "f" * 16: ("x", PersonFields("student", "Jo", "Jones"))})
    tapped = [refs[0], refs[199], refs[200], refs[259], "p_" + "f" * 16]
    events = [tap(seq, key=f"{seq:032x}", person=ref) for seq, ref in enumerate(tapped, 1)]
    Committer(store).commit([message(*events)])

    def seqs(person: str) -> list[int]:
        with store.read() as connection:
            return [line.seq for line in read_log(everything("x"), connection, LogFilter(person=person))[0]]

    assert seqs("smith") == [4, 3, 2, 1]
    assert seqs("jo smith") == [4, 3, 2, 1]
    assert seqs("jones") == [5]
    assert seqs(refs[200]) == [3]
    assert seqs("nobody") == []
