"""The audit log is a chain: a line that is changed, removed or put in between is named."""

from __future__ import annotations

import threading

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import delete, insert, select, text, update

from gateway.hub.store import tables
from gateway.hub.store.audit import Audit, verify
from gateway.hub.store.engine import MIGRATIONS, Store, open_store
from tests.hub.samples import SITE

BOTH_DATABASES = True


def note(store: Store, count: int, site: str = SITE) -> None:
    with store.write() as connection:
        audit = Audit("person:office", site, 1_000, reason="lost on the bus")
        for number in range(count):
            audit.note("card_state", f"card:{number}", before="active", after="lost", ratio=0.1, name="Zoë \ud83d")
        audit.write(connection)


def faults(store: Store) -> dict[str, str | None]:
    with store.read() as connection:
        return {chain.site: chain.fault for chain in verify(connection)}


def test_an_untouched_log_verifies_and_tells_its_newest_hash(store: Store) -> None:
    note(store, 3)
    note(store, 2)
    note(store, 1, site="")
    with store.read() as connection:
        chains = {chain.site: chain for chain in verify(connection)}
        newest = connection.scalar(select(tables.audit.c.hash).where(tables.audit.c.number == 5))
    assert {site: (chain.lines, chain.fault) for site, chain in chains.items()} == {"": (1, None), SITE: (5, None)}
    assert chains[SITE].head == newest


@pytest.mark.parametrize("column", ["actor", "operation", "subject", "at_ms", "detail", "reason", "hash"])
def test_a_changed_line_is_named_whichever_part_of_it_changed(store: Store, column: str) -> None:
    note(store, 5)
    value = 7 if column == "at_ms" else {"x": 1} if column == "detail" else "x"
    with store.write() as connection:
        connection.execute(update(tables.audit).where(tables.audit.c.number == 3).values({column: value}))
    assert faults(store) == {SITE: "Line 3 is not as it was written."}


def test_a_removed_line_a_cut_tail_and_a_line_put_in_are_named(store: Store) -> None:
    note(store, 5)
    table = tables.audit
    with store.write() as connection:
        last = dict(connection.execute(select(table).where(table.c.number == 5)).mappings().one())
        connection.execute(delete(table).where(table.c.number == 5))
    assert faults(store) == {SITE: "Lines after 4 are missing."}
    with store.write() as connection:
        connection.execute(insert(table).values(last))
        connection.execute(insert(table).values({**last, "id": 99, "number": 6}))
    assert faults(store) == {SITE: "Line 6 is not as it was written."}
    with store.write() as connection:
        connection.execute(delete(table).where(table.c.number == 2))
    assert faults(store) == {SITE: "Line 2 is missing."}


def test_a_chain_whose_head_was_taken_away_is_noticed(store: Store) -> None:
    note(store, 2)
    with store.write() as connection:
        connection.execute(delete(tables.audit_head))
    assert faults(store) == {SITE: "Lines after 2 are missing."}


def test_writers_at_the_same_time_make_one_unbroken_chain(store: Store) -> None:
    threads = [threading.Thread(target=note, args=(store, 5)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults(store) == {SITE: None}
    with store.read() as connection:
        assert connection.scalar(select(tables.audit_head.c.number)) == 30


def test_the_lines_of_the_release_before_get_their_place_in_the_chain(store: Store) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    with store.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.stamp(config, "base", purge=True)
        for name in reversed(tables.metadata.sorted_tables):
            connection.execute(text(f'DROP TABLE "{name.name}"'))
        command.upgrade(config, "0013")
        for number in range(3):
            connection.execute(
                text(
                    "INSERT INTO audit (at_ms, actor, site, operation, subject, detail) "
                    "VALUES (:n, 'hub', 's', 'x', 'y', '{\"b\": 1, \"a\": \"é\"}')"
                ),
                {"n": number},
            )
    with open_store(url, MIGRATIONS) as again:
        again.migrate()
        assert faults(again) == {"s": None}
        note(again, 1, "s")
        assert faults(again) == {"s": None}
