"""A database of the release before: its people become claims, and the first read after it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text

from gateway.hub.directory.groups import follow_groups, typed_groups
from gateway.hub.store import tables
from gateway.hub.store.engine import MIGRATIONS, Store, open_store
from gateway.hub.sync.feed import gather
from gateway.hub.sync.known import load_known
from gateway.hub.sync.plan import make_plan
from gateway.mis.base import Capabilities, Complete, PersonFields, Record
from tests.hub.conftest import Postgres
from tests.hub.sync.school_reads import claim

BEFORE = "0012"
PEOPLE = [
    ("p_1", "1", "student", "Ann", "Smith", '["7B"]', True),
    ("p_2", "T1", "staff", "Zoë", "Müller", "[]", True),
    ("p_3", "3", "student", "Ben", "Jones", '["8C"]', False),
]


def at_release_before(url: str, folder: Path) -> Store:
    store = open_store(url, folder)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
        run = connection.execute
        run(text("INSERT INTO site (id, name, timezone, key_file, edited) VALUES ('s', 'S', 'UTC', 'k', false)"))
        run(
            text(
                "INSERT INTO source (id, site, name, kind, options, edited) VALUES (1, 's', 'mis', 'csv', '{}', false)"
            )
        )
        for ref, key, role, given, family, groups, active in PEOPLE:
            values = {"ref": ref, "key": key, "role": role, "given": given, "family": family, "groups": groups}
            run(
                text(
                    "INSERT INTO person (ref, site, source, person_key, role, given_name, family_name, groups, active, "
                    "created_ms, changed_ms) "
                    "VALUES (:ref, 's', 1, :key, :role, :given, :family, :groups, :active, 5, 6)"
                ),
                {**values, "active": active},
            )
        for value, ref, namespace in (
            ("1", "p_1", "key"),
            ("T1", "p_2", "key"),
            ("3", "p_3", "key"),
            ("U1", "p_1", "stable"),
        ):
            run(
                text("INSERT INTO identity (source, namespace, value, person, since_ms) VALUES (1, :n, :v, :p, 5)"),
                {"n": namespace, "v": value, "p": ref},
            )
        run(
            text(
                "INSERT INTO card "
                "(id, site, key, tail, projection, person, state, state_by, origin, created_ms, changed_ms) "
                "VALUES (7, 's', :key, 'AAAA', 'uid', 'p_1', 'active', 'source:1', 'source:1', 5, 5)"
            ),
            {"key": claim("aaaa").key},
        )
        run(text("INSERT INTO holding (card, person) VALUES (7, 'p_1')"))
    return store


@pytest.fixture(params=["sqlite", "postgres"])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = "sqlite:///hub.db"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    store = at_release_before(url, tmp_path)
    store.migrate()
    yield store
    store.close()


def test_nobody_s_reference_card_or_holding_changes(moved: Store) -> None:
    card, holding = tables.card.c, tables.holding.c
    with moved.read() as connection:
        people = {
            row.ref: (row.person_key, row.state, row.sort_name) for row in connection.execute(select(tables.person))
        }
        cards = connection.execute(select(card.id, card.person, card.state)).all()
        holders = connection.execute(select(holding.card, holding.person)).all()
        agreed = connection.scalar(select(tables.source.c.agreed_ms))
    assert people == {
        "p_1": ("1", "active", "smith ann"),
        "p_2": ("T1", "active", "muller zoe"),
        "p_3": ("3", "inactive", "jones ben"),
    }
    assert [tuple(row) for row in cards] == [(7, "p_1", "active")]
    assert [tuple(row) for row in holders] == [(7, "p_1")]
    assert agreed == 5


def test_the_first_read_after_it_plans_nothing(moved: Store) -> None:
    with moved.read() as connection:
        known = load_known(connection, "s", 1)
    read = [
        Record("1", PersonFields("student", "Ann", "Smith", ("7B",)), (claim("aaaa"),), "line 1", "U1"),
        Record("T1", PersonFields("staff", "Zoë", "Müller"), (), "line 2"),
    ]
    plan = make_plan(gather([*read, Complete()]), known, Capabilities(), 10)
    assert (plan.operations, plan.conflicts) == ([], [])


def test_whoever_is_here_is_in_the_groups_that_they_had_and_new_ones_can_be_made(moved: Store) -> None:
    group, member = tables.grouping, tables.membership
    with moved.read() as connection:
        query = select(member.c.person, group.c.kind, group.c.name, member.c.since_ms, member.c.until_ms)
        rows = [tuple(row) for row in connection.execute(query.join_from(member, group))]
    assert rows == [("p_1", "group", "7B", 5, None)]
    with moved.write() as connection:
        fields = PersonFields("student", "Ann", "Smith", ("7B",), form="7C")
        follow_groups(connection, {"p_1": ("s", typed_groups(fields))}, 9)
    with moved.read() as connection:
        rows = [tuple(row) for row in connection.execute(query.join_from(member, group).order_by(member.c.id))]
    assert rows == [("p_1", "group", "7B", 5, None), ("p_1", "form", "7C", 9, None)]
