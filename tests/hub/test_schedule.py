from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from gateway.hub.directory.sites import list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.locks import exclusive
from gateway.hub.sync.run import sync
from gateway.hub.sync.schedule import Schedule
from gateway.simulator.school import sample_school
from tests.hub.samples import wait_until
from tests.hub.test_sync_run import TOML

QUARTER_MS = 15 * 60 * 1000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "hub.toml").write_text(TOML)
    (tmp_path / "site.key").write_text(bytes(range(32)).hex())
    sample_school(30).write_csv(tmp_path / "people.csv")
    store = prepare_store(read_settings(tmp_path / "hub.toml"))
    yield store
    store.close()


def results(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(tables.sync_run.c.result).order_by(tables.sync_run.c.id)))


def test_a_source_that_never_ran_is_due_and_then_not_for_a_quarter_of_an_hour(hub: Store, tmp_path: Path) -> None:
    schedule = Schedule(hub, tmp_path)
    schedule._run_due()
    assert results(hub) == ["done"]
    schedule._run_due()
    assert results(hub) == ["done"]
    with hub.write() as connection:
        connection.execute(update(tables.sync_run).values(started_ms=now_ms() - QUARTER_MS))
    schedule._run_due()
    assert results(hub) == ["done", "done"]


def test_runs_that_were_missed_for_days_are_made_up_once(hub: Store, tmp_path: Path) -> None:
    with hub.write() as connection:
        source = connection.scalar(select(tables.source.c.id))
        old = {"source": source, "started_ms": now_ms() - 100 * QUARTER_MS, "result": "done"}
        connection.execute(insert(tables.sync_run).values(old))
    schedule = Schedule(hub, tmp_path)
    schedule._run_due()
    schedule._run_due()
    assert results(hub) == ["done", "done"]


def test_a_run_that_died_is_closed_as_failed_by_the_next(hub: Store, tmp_path: Path) -> None:
    with hub.write() as connection:
        source = connection.scalar(select(tables.source.c.id))
        died = {"source": source, "started_ms": now_ms() - 100 * QUARTER_MS, "result": "running"}
        connection.execute(insert(tables.sync_run).values(died))
    Schedule(hub, tmp_path)._run_due()
    assert results(hub) == ["failed", "done"]


def test_a_run_by_hand_under_way_is_left_alone_and_a_failing_source_does_not_stop_the_clock(
    hub: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with hub.read() as connection:
        (source,) = list_sources(connection)
    schedule = Schedule(hub, tmp_path)
    with exclusive(hub, f"sync-{source.id}"):
        schedule._run_due()
    assert results(hub) == []
    (tmp_path / "people.csv").unlink()
    schedule._run_due()
    assert results(hub) == ["failed"]
    assert "last good data" in caplog.text


def test_the_clock_runs_by_itself_and_stops(hub: Store, tmp_path: Path) -> None:
    beats: list[int] = []
    schedule = Schedule(hub, tmp_path, beat=lambda: beats.append(1))
    schedule.start()
    wait_until(lambda: results(hub) == ["done"], "nothing ran")
    schedule.stop()
    assert beats
    with hub.read() as connection:
        (source,) = list_sources(connection)
    assert sync(hub, source, tmp_path).applied == 0
