from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from gateway.errors import ConfigError, StoreUnavailable
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, open_store
from gateway.hub.store.locks import exclusive
from gateway.hub.store.rows import insert_if_new
from tests.hub.samples import message, tap


def test_the_migrations_lead_to_exactly_the_tables_of_this_software(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": tables.metadata})
        assert compare_metadata(context, tables.metadata) == []


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.migrate()
    with store.read() as connection:
        assert connection.scalar(select(tables.site.c.id)) == "st-marys"


def test_sqlite_keeps_what_it_was_told_to_keep(store: Store) -> None:
    with store.read() as connection:
        pragmas = {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")}
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_a_failed_transaction_leaves_nothing_behind(store: Store) -> None:
    row = {"id": "other", "name": "Other", "timezone": "UTC", "key_file": "k", "edited": False}

    def fail() -> None:
        with store.write() as connection:
            connection.execute(tables.site.insert().values(row))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as connection:
        assert connection.scalars(select(tables.site.c.id)).all() == ["st-marys"]


def test_a_database_that_cannot_be_opened_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    store = open_store("sqlite:///missing/hub.db", tmp_path)
    with pytest.raises(StoreUnavailable):
        store.ping()


@pytest.mark.parametrize("url", ["", "oracle-of-delphi://x", "not a url"])
def test_a_database_url_that_makes_no_sense_is_a_configuration_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url, tmp_path)


def test_insert_if_new_tells_whether_it_was(store: Store) -> None:
    row = {"site": "st-marys", "name": "gw"}
    with store.write() as connection:
        assert insert_if_new(connection, tables.gateway, row)
        assert not insert_if_new(connection, tables.gateway, row)


def _try_lock(folder: str, answers: multiprocessing.Queue[bool]) -> None:
    store = open_store("sqlite:///hub.db", Path(folder))
    with exclusive(store, "fleet") as held:
        answers.put(held is not None)
    store.close()


def test_a_lock_holds_against_another_process_and_ends_with_its_holder(store: Store, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[bool] = spawn.Queue()
    for mine, theirs in ((True, False), (False, True)):
        if mine:
            with exclusive(store, "fleet") as held:
                assert held is not None
                other = spawn.Process(target=_try_lock, args=(str(tmp_path), answers))
                other.start()
                other.join(30)
        else:
            other = spawn.Process(target=_try_lock, args=(str(tmp_path), answers))
            other.start()
            other.join(30)
        assert answers.get(timeout=5) is theirs


def test_a_locked_database_is_unavailable_and_nothing_is_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.hub.store.engine._BUSY_SECONDS", 0.05)
    impatient = open_store("sqlite:///hub.db", tmp_path)
    committer = Committer(impatient)
    with store.write(), pytest.raises(StoreUnavailable):
        committer.commit([message(tap(1))])
    assert committer.commit([message(tap(1))]).fresh == 1
    impatient.close()
