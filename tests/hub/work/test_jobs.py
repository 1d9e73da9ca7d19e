from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from gateway.errors import RefusedError, SourceRefused, SourceUnreachable
from gateway.hub.directory.sites import Source, list_sources
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.times import to_ms
from gateway.hub.sync.jobs import CARDS, FULL, Follower, host_of_source, request_run, source_work
from gateway.hub.sync.run import Overlap
from gateway.hub.work.jobs import Job, JobSpec, Outcome, due_jobs, finish, follow, list_jobs, take_lease
from gateway.hub.work.times import Timing
from tests.hub.samples import SITE

BOTH_DATABASES = True
MINUTE = 60_000
HOUR = 60 * MINUTE
NOON = to_ms(datetime(2026, 11, 26, 12, tzinfo=UTC))
EVERY = Timing(every_minutes=15)


@pytest.fixture
def source(store: Store) -> Source:
    return add_source(store, "mis")


def add_source(store: Store, name: str, **options: object) -> Source:
    with store.write() as connection:
        row = {"site": SITE, "name": name, "kind": "csv", "options": {"path": "people.csv", **options}}
        connection.execute(insert(tables.source).values(row))
        return list_sources(connection, SITE, name)[0]


def jobs(store: Store) -> dict[str, Job]:
    with store.read() as connection:
        return {job.kind: job for job in list_jobs(connection)}


def end(store: Store, job: Job, at_ms: int, outcome: Outcome) -> None:
    with store.write() as connection:
        assert take_lease(connection, job.id, "hub-0", at_ms)
        finish(connection, job, "hub-0", at_ms, at_ms, outcome)


def test_a_source_is_read_at_once_then_every_quarter_of_an_hour_and_all_of_it_at_night(
    store: Store, source: Source, tmp_path: Path
) -> None:
    Follower(store, tmp_path)(NOON)
    found = jobs(store)
    assert found[CARDS].source == source.id
    assert found[CARDS].next_ms == NOON
    night = datetime.fromtimestamp((found[FULL].next_ms or 0) / 1000, UTC)
    assert datetime(2026, 11, 27, 1, tzinfo=UTC) <= night < datetime(2026, 11, 27, 3, tzinfo=UTC)
    end(store, found[CARDS], NOON, Outcome("done"))
    assert jobs(store)[CARDS].next_ms == NOON + 15 * MINUTE


def test_every_minutes_and_the_night_are_settings_and_a_change_of_them_counts(store: Store, tmp_path: Path) -> None:
    add_source(store, "mis", every_minutes=60, nightly="22:00-23:00")
    Follower(store, tmp_path)(NOON)
    found = jobs(store)
    assert found[CARDS].timing.every_minutes == 60
    assert found[FULL].timing.window == (time(22), time(23))
    with store.write() as connection:
        connection.execute(tables.source.update().values(options={"path": "people.csv", "nightly": False}))
    Follower(store, tmp_path)(NOON)
    assert set(jobs(store)) == {CARDS}


def test_the_jobs_of_a_source_that_is_no_longer_read_go(store: Store, source: Source, tmp_path: Path) -> None:
    follower = Follower(store, tmp_path)
    follower(NOON)
    with store.write() as connection:
        connection.execute(tables.source.update().where(tables.source.c.id == source.id).values(removed_ms=1))
    follower(NOON)
    assert jobs(store) == {}


def test_runs_missed_for_days_are_made_up_once(store: Store, source: Source, tmp_path: Path) -> None:
    Follower(store, tmp_path)(NOON)
    later = NOON + 100 * HOUR
    with store.read() as connection:
        due = {job.kind: job for job in due_jobs(connection, later)}
    assert set(due) == {CARDS, FULL}
    for job in due.values():
        end(store, job, later, Outcome("done"))
    with store.read() as connection:
        assert due_jobs(connection, later + MINUTE) == []
    assert source.id


def test_after_failures_the_next_try_waits_longer_and_longer_and_success_ends_that(
    store: Store, source: Source, tmp_path: Path
) -> None:
    Follower(store, tmp_path)(NOON)
    at_ms, waits = NOON, []
    for _ in range(6):
        job = jobs(store)[CARDS]
        end(store, job, at_ms, Outcome("failed", "unreachable", "The server of the source does not answer."))
        job = jobs(store)[CARDS]
        assert job.next_ms is not None
        waits.append((job.next_ms - at_ms) // MINUTE)
        at_ms = job.next_ms
    assert waits == [1, 5, 15, 60, 60, 60]
    assert job.failing_since_ms == NOON
    assert job.failure == "unreachable"
    end(store, job, at_ms, Outcome("done"))
    job = jobs(store)[CARDS]
    assert (job.tries, job.failing_since_ms, job.failure) == (0, None, None)
    assert source.id


def test_a_refused_source_stops_until_its_settings_change(store: Store, tmp_path: Path) -> None:
    add_source(store, "mis", token_file="token")
    token = tmp_path / "token"
    token.write_text("old")
    Follower(store, tmp_path)(NOON)
    end(store, jobs(store)[CARDS], NOON, Outcome("failed", "expired", "The password has expired.", stops=True))
    assert {job.stopped_why for job in jobs(store).values()} == {"The password has expired."}
    Follower(store, tmp_path)(NOON + HOUR)
    with store.read() as connection:
        assert due_jobs(connection, NOON + 1000 * HOUR) == []
    token.write_text("newer")
    Follower(store, tmp_path)(NOON + HOUR)
    with store.read() as connection:
        assert [job.kind for job in due_jobs(connection, NOON + HOUR)] == [CARDS, FULL]
    assert {job.stopped_why for job in jobs(store).values()} == {None}


def test_a_run_that_somebody_asks_for_lets_a_stopped_source_go_on_when_it_works(
    store: Store, source: Source, tmp_path: Path
) -> None:
    Follower(store, tmp_path)(NOON)
    end(store, jobs(store)[CARDS], NOON, Outcome("failed", "refused", "No.", stops=True))
    with store.write() as connection:
        request_run(connection, "person:office", source, NOON + HOUR)
    with store.read() as connection:
        (job,) = due_jobs(connection, NOON + HOUR)
        line = connection.execute(select(tables.audit)).one()
    assert (job.kind, job.asked_by) == (FULL, "person:office")
    assert (line.actor, line.operation, line.subject) == ("person:office", "run_request", "mis")
    end(store, job, NOON + HOUR, Outcome("done"))
    found = jobs(store)
    assert {job.stopped_why for job in found.values()} == {None}
    assert found[CARDS].next_ms is not None


def test_a_run_may_be_asked_for_once_in_five_minutes_a_source(store: Store, source: Source, tmp_path: Path) -> None:
    other = add_source(store, "visitors")
    Follower(store, tmp_path)(NOON)
    with store.write() as connection:
        request_run(connection, "person:office", source, NOON)
        request_run(connection, "person:office", other, NOON)
        with pytest.raises(RefusedError, match="in 1 min"):
            request_run(connection, "person:head", source, NOON + 4 * MINUTE + 1)
        request_run(connection, "person:head", source, NOON + 5 * MINUTE)
        assert len(connection.execute(select(tables.audit)).all()) == 3


def test_two_hub_processes_never_take_one_job_and_a_dead_one_loses_it(
    store: Store, source: Source, tmp_path: Path
) -> None:
    Follower(store, tmp_path)(NOON)
    job = jobs(store)[CARDS]
    with store.write() as connection:
        assert take_lease(connection, job.id, "hub-0", NOON)
    with store.write() as connection:
        assert not take_lease(connection, job.id, "hub-1", NOON)
        assert due_jobs(connection, NOON) == []
        assert take_lease(connection, job.id, "hub-1", NOON + 2 * MINUTE)
    with store.write() as connection:
        # The first one comes back to life: its word no longer counts.
        finish(connection, job, "hub-0", NOON, NOON + 2 * MINUTE, Outcome("done"))
    assert jobs(store)[CARDS].last_ms is None
    assert source.id


def test_a_job_of_no_source_is_kept_apart_from_the_kinds_that_others_follow(store: Store) -> None:
    with store.write() as connection:
        follow(connection, [JobSpec(SITE, None, "tidy", EVERY, "")], ("tidy",), NOON)
        follow(connection, [], (CARDS, FULL), NOON)
        assert [job.kind for job in list_jobs(connection)] == ["tidy"]


def test_each_way_in_which_a_source_fails_has_its_word(
    store: Store, source: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Follower(store, tmp_path)(NOON)
    job = jobs(store)[CARDS]
    errors: list[tuple[Exception, tuple[str | None, bool, bool]]] = [
        (SourceUnreachable("The host does not answer."), ("unreachable", False, False)),
        (SourceRefused("object_missing", "The view is gone."), ("object_missing", False, False)),
        (SourceRefused("expired", "The password has expired."), ("expired", True, False)),
        (Overlap("A run is under way."), (None, False, True)),
        (ValueError("Ann Smith"), ("failed", False, False)),
    ]
    for error, expected in errors:

        def fail(_source: Source, _kind: str, error: Exception = error) -> str:
            raise error

        outcome = source_work(store, tmp_path, fail).run(job)
        assert (outcome.failure, outcome.stops, outcome.busy) == expected
        assert "Ann" not in str(outcome.error)
    assert "last good data" in caplog.text
    assert source.id


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({"base_url": "https://api.example/v1"}, "api.example"),
        ({"host": "10.0.0.7"}, "10.0.0.7"),
        ({"path": "people.csv"}, None),
    ],
)
def test_what_a_source_loads_is_its_host(source: Source, options: dict[str, str], host: str | None) -> None:
    assert host_of_source(replace(source, options=options)) == host
