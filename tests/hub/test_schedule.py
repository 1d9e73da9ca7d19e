from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, select, update

from gateway.commands import mis
from gateway.errors import ConfigError
from gateway.hub.directory.sites import list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.locks import exclusive
from gateway.hub.sync.jobs import source_work
from gateway.hub.web.app import build_office
from gateway.hub.web.office import Daemon
from gateway.hub.work.runner import Runner
from gateway.simulator.school import sample_school
from gateway.webkit.events import Broadcaster
from tests.hub.samples import wait_until
from tests.hub.test_sync_run import TOML

QUARTER_MS = 15 * 60 * 1000


class Clock:
    def __init__(self) -> None:
        self.at_ms = now_ms()

    def __call__(self) -> int:
        return self.at_ms


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "hub.toml").write_text(TOML)
    (tmp_path / "site.key").write_text(bytes(range(32)).hex())
    sample_school(30).write_csv(tmp_path / "people.csv")
    store = prepare_store(read_settings(tmp_path / "hub.toml"))
    with store.write() as connection:
        # Somebody has let its people in before.
        connection.execute(update(tables.source).values(agreed_ms=1))
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(hub: Store, tmp_path: Path, clock: Clock) -> Runner:
    return Runner(hub, "hub-0", source_work(hub, tmp_path), clock=clock)


def results(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(tables.sync_run.c.result).order_by(tables.sync_run.c.id)))


def run_due(runner: Runner) -> None:
    """Let everything that is due run, and wait for its end."""
    runner.turn()
    for run in list(runner._runs):
        assert run.thread is not None
        run.thread.join(30)
    runner._settle()


def test_a_source_that_never_ran_is_due_and_then_not_for_a_quarter_of_an_hour(
    hub: Store, runner: Runner, clock: Clock
) -> None:
    run_due(runner)
    assert results(hub) == ["done"]
    clock.at_ms += QUARTER_MS - 1
    run_due(runner)
    assert results(hub) == ["done"]
    clock.at_ms += 1
    run_due(runner)
    assert results(hub) == ["done", "done"]


def test_runs_that_were_missed_for_days_are_made_up_once_with_everything(
    hub: Store, runner: Runner, clock: Clock
) -> None:
    run_due(runner)
    clock.at_ms += 400 * QUARTER_MS
    for _ in range(4):
        run_due(runner)
    # The cards, then everything: two kinds of run, each once.
    assert results(hub) == ["done", "done", "done"]


def test_a_run_that_died_is_closed_as_failed_by_the_next(hub: Store, runner: Runner) -> None:
    with hub.write() as connection:
        source = connection.scalar(select(tables.source.c.id))
        died = {"source": source, "started_ms": now_ms() - 100 * QUARTER_MS, "result": "running"}
        connection.execute(insert(tables.sync_run).values(died))
    run_due(runner)
    assert results(hub) == ["failed", "done"]


def test_a_run_by_hand_under_way_is_left_alone_and_a_failing_source_does_not_stop_the_clock(
    hub: Store, runner: Runner, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_due(runner)
    with hub.read() as connection:
        (source,) = list_sources(connection)
    clock.at_ms += QUARTER_MS
    with exclusive(hub, f"sync-{source.id}"):
        run_due(runner)
    assert results(hub) == ["done"]
    (tmp_path / "people.csv").unlink()
    clock.at_ms += 60_000
    run_due(runner)
    assert results(hub) == ["done", "failed"]
    assert "last good data" in caplog.text
    sample_school(30).write_csv(tmp_path / "people.csv")
    clock.at_ms += 60_000
    run_due(runner)
    assert results(hub) == ["done", "failed", "done"]


def test_everything_at_night_counts_as_a_run_of_the_cards(hub: Store, runner: Runner, clock: Clock) -> None:
    run_due(runner)
    job = tables.job
    with hub.write() as connection:
        connection.execute(update(job).where(job.c.kind == "full").values(next_ms=clock.at_ms + QUARTER_MS - 1))
    clock.at_ms += QUARTER_MS - 1
    run_due(runner)
    clock.at_ms += 1
    run_due(runner)
    assert results(hub) == ["done", "done"]


def test_the_clock_runs_by_itself_and_stops(hub: Store, tmp_path: Path) -> None:
    beats: list[int] = []
    runner = Runner(hub, "hub-0", source_work(hub, tmp_path), beat=lambda: beats.append(1))
    runner.start()
    wait_until(lambda: results(hub) == ["done"], "nothing ran")
    runner.stop()
    assert beats


def test_the_verb_shows_what_runs_when_and_why_it_failed(
    hub: Store, runner: Runner, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb() -> tuple[int, list[dict[str, Any]], str]:
        parser = argparse.ArgumentParser()
        mis.add_arguments(parser)
        code = mis.run(parser.parse_args(["jobs", "--config", str(tmp_path / "hub.toml"), "--json"]))
        out = capsys.readouterr().out
        return code, json.loads(out.splitlines()[-1])["jobs"], out

    run_due(runner)
    code, jobs, out = verb()
    assert code == mis.GOOD
    cards, full = sorted(jobs, key=lambda job: job["kind"])
    assert (cards["kind"], cards["every_minutes"], cards["last_result"]) == ("cards", 15, "done")
    assert (full["kind"], full["window"]) == ("full", ["01:00", "03:00"])
    assert "st-marys/mis full: next" in out
    (tmp_path / "people.csv").unlink()
    clock.at_ms += QUARTER_MS
    run_due(runner)
    code, jobs, out = verb()
    assert code == mis.FINDINGS
    assert [job["failing_since"] is not None for job in jobs if job["kind"] == "cards"] == [True]
    assert "failing since" in out
    assert results(hub) == ["done", "failed"]


@pytest.mark.parametrize("value", ['"01:00"', '"25:00-03:00"', "true", "7"])
def test_a_night_that_is_no_window_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    (tmp_path / "hub.toml").write_text(TOML + f"nightly = {value}\n")
    (tmp_path / "site.key").write_text(bytes(range(32)).hex())
    with pytest.raises(ConfigError, match="nightly"):
        read_settings(tmp_path / "hub.toml")


def test_the_office_lets_a_source_be_read_at_once_and_not_twice_in_five_minutes(
    hub: Store, runner: Runner, clock: Clock
) -> None:
    run_due(runner)
    site = build_office(hub, Daemon(list, lambda: None, dict), Broadcaster())
    with TestClient(site.app, base_url="http://127.0.0.1") as client:
        page = client.get("/syncs").text
        assert "last read" in page
        assert "Sync st-marys/mis now" in page
        headers = {"Origin": "http://127.0.0.1"}
        assert (
            client.post("/syncs/run", data={"source": "1"}, headers=headers, follow_redirects=False).status_code == 303
        )
        again = client.post("/syncs/run", data={"source": "1"}, headers=headers)
        assert "ask again in 5 min" in again.text
    clock.at_ms = now_ms() + 1
    run_due(runner)
    assert results(hub) == ["done", "done"]
