from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.agent import loop as agent_loop
from gateway.agent.loop import Loop, pause_minutes, state_of
from gateway.agent.settings import load_agent
from tests.hub.agent_school import ROWS, School
from tests.hub.samples import wait_until


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    school = School(tmp_path)
    yield school
    school.stop()


class Service:
    """The loop with minutes that last milliseconds."""

    def __init__(self, school: School, monkeypatch: pytest.MonkeyPatch, *, pause_seconds: float) -> None:
        monkeypatch.setattr(agent_loop, "_LOOK_SECONDS", 0.05)
        monkeypatch.setattr(agent_loop, "_LEAST_SECONDS", 0.05)
        monkeypatch.setattr(agent_loop, "pause_minutes", lambda *_: pause_seconds / 60)
        self.beats = 0
        self.loop = Loop(school.folder / "agent.toml", self._beat)
        self.loop.start()

    def _beat(self) -> None:
        self.beats += 1

    def says(self, words: str) -> None:
        wait_until(lambda: words in self.loop.status, f"the agent does not say {words!r}", 30)


def test_a_password_that_is_refused_is_not_tried_again_soon() -> None:
    assert [pause_minutes(15, failures, "refused") for failures in (1, 2, 9)] == [60, 60, 60]
    assert pause_minutes(15, 1, "expired") == 60
    assert [pause_minutes(15, failures, "short") for failures in (1, 2, 3, 4)] == [1, 5, 15, 60]
    assert pause_minutes(15, 0, None) == 15


def test_a_renewed_token_is_used_without_a_restart(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    (school.folder / "agent.token").write_text("tg_expired")
    service = Service(school, monkeypatch, pause_seconds=3600)
    service.says("does not accept the token")
    school.token("st-marys")
    service.says("4 lines were sent")
    service.loop.stop()
    assert len(school.lines()) == 4


def test_a_fault_that_nothing_mends_is_not_tried_again_before_its_time(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    (school.folder / "people.csv").unlink()
    service = Service(school, monkeypatch, pause_seconds=3600)
    service.says("There is no file")
    rounds = service.beats
    wait_until(lambda: service.beats > rounds + 10, "the loop does not beat", 30)
    assert "There is no file" in service.loop.status
    school.export(*ROWS)
    service.says("4 lines were sent")
    service.loop.stop()


def test_a_hub_that_is_away_gets_the_newest_read_when_it_is_back(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = school.server.address
    school.configure(hub="https://127.0.0.1:1")
    service = Service(school, monkeypatch, pause_seconds=0.05)
    service.says("cannot be reached")
    school.export(*ROWS, ("009", "Cid", "Moor", ""))
    school.configure(hub=address)
    service.says("lines were sent")
    service.loop.stop()
    assert any(b"Moor" in line for line in school.lines())


def test_settings_that_break_while_it_runs_are_told_and_a_correction_goes_on(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (school.folder / "agent.toml").read_text()
    (school.folder / "agent.toml").write_text(good.replace('kind = "csv"', 'kind = "cvs"'))
    service = Service(school, monkeypatch, pause_seconds=3600)
    service.says("source.kind: must be one of csv")
    assert "\n" not in service.loop.status
    (school.folder / "agent.toml").write_text(good)
    service.says("4 lines were sent")
    service.loop.stop()


def test_an_unexpected_fault_costs_one_round_and_not_the_service(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Loop._round
    faults = [ZeroDivisionError("a name that nobody should read")]

    def once(self: Loop) -> None:
        if faults:
            raise faults.pop()
        whole(self)

    monkeypatch.setattr(Loop, "_round", once)
    service = Service(school, monkeypatch, pause_seconds=0.2)
    service.says("lines were sent")
    service.loop.stop()
    assert not any(thread.name == "agent" for thread in threading.enumerate())


def test_a_change_of_any_named_file_is_seen(school: School) -> None:
    files = load_agent(school.folder / "agent.toml").named_files()
    assert {path.name for path in files} == {"agent.toml", "agent.token", "site.key", "school-ca.pem", "people.csv"}
    before = state_of(files)
    assert state_of(files) == before
    os.utime(school.folder / "agent.token", ns=(1, 1))
    assert state_of(files) != before
    before = state_of(files)
    (school.folder / "people.csv").unlink()
    assert state_of(files) != before
