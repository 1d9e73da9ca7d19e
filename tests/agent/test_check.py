from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.agent.check import NOT_TRIED, check_agent, check_source
from gateway.agent.hub import HubUntrusted
from gateway.agent.settings import load_agent
from gateway.cli import main
from gateway.errors import MissingExtra
from gateway.mis.base import CheckResult
from gateway.webkit.server import WebServer
from tests.certificates import Authority
from tests.hub.agent_school import SQL, School

STEPS = [
    "settings",
    "site key",
    "client driver",
    "database or file",
    "account and rights",
    "people",
    "hub reached",
    "hub's certificate",
    "clock",
    "token and source",
    "same site key",
]


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    school = School(tmp_path)
    yield school
    school.stop()


def steps_of(school: School) -> dict[str, bool | None]:
    return {step.name: step.ok for step in check_agent(load_agent(school.folder / "agent.toml"))}


def failing(school: School) -> str:
    (step,) = [step for step in check_agent(load_agent(school.folder / "agent.toml")) if step.ok is False]
    return f"{step.name}: {step.detail}"


def test_a_good_set_up_passes_every_step_and_sends_nothing(school: School, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "check", "--config", str(school.folder / "agent.toml"), "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"ok   {name}" for name in STEPS]
    assert [step["ok"] for step in json.loads(last)["steps"]] == [True] * len(STEPS)
    assert school.lines() == []
    assert not (school.folder / "agent-state").exists()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("not_supported", "client driver"),
        ("unreachable", "database or file"),
        ("object_missing", "database or file"),
        ("expired", "account and rights"),
        ("permission_missing", "account and rights"),
        ("column_missing", "people"),
        ("short", "people"),
    ],
)
def test_each_fault_of_a_source_fails_its_own_step_and_those_after_it_are_not_tried(word: str, name: str) -> None:
    steps = list(check_source(CheckResult(word, "The reason."), "sql"))
    place = [step.name for step in steps].index(name)
    assert [step.ok for step in steps] == [True] * place + [False] + [None] * (3 - place)
    assert steps[place].detail == f"{word}: The reason."
    assert {step.detail for step in steps[place + 1 :]} <= {NOT_TRIED}


def test_an_account_that_may_write_passes_with_a_warning() -> None:
    result = CheckResult(None, "3 people.", (("may_write", "It may change people."),))
    steps = {step.name: step for step in check_source(result, "sql")}
    assert (steps["account and rights"].ok, steps["account and rights"].warning) == (True, True)
    assert not steps["people"].warning


def test_a_view_that_is_not_there_and_a_column_that_is_not_are_different_steps(school: School) -> None:
    with sqlite3.connect(school.folder / "mis.db") as database:
        database.execute("CREATE TABLE pupil (id TEXT, first TEXT, last TEXT)")
    school.configure(SQL.replace("{{", "{").replace("}}", "}"))
    assert failing(school).startswith("database or file: object_missing")
    with sqlite3.connect(school.folder / "mis.db") as database:
        database.execute("CREATE VIEW pupils AS SELECT id, first, last FROM pupil")
    assert failing(school).startswith("people: column_missing")


def test_another_site_key_is_found_before_any_card_is_sent_under_it(school: School) -> None:
    (school.folder / "other.key").write_text("ab" * 32)
    path = school.folder / "agent.toml"
    path.write_text(path.read_text().replace('"site.key"', '"other.key"'))
    assert "same site key: The hub refused (422): The agent's site key is not the one of st-marys" in failing(school)
    assert steps_of(school)["token and source"]
    with pytest.raises(Exception, match="no door would know a card"):
        school.agent().round()
    assert school.lines() == []


def test_a_missing_site_key_stops_the_source_but_not_the_hub(school: School) -> None:
    (school.folder / "site.key").unlink()
    steps = steps_of(school)
    assert (steps["site key"], steps["people"], steps["hub reached"]) == (False, None, True)


def serve(school: School, in_days: int, address: str) -> WebServer:
    authority = Authority(school.folder, "clock-ca")
    server = WebServer(
        school.server._app, "127.0.0.1", 0, certificate=authority.issue("late", in_days=in_days, address=address)
    )
    server.start()
    school.configure(hub=server.address)
    path = school.folder / "agent.toml"
    path.write_text(path.read_text().replace(school.ca_file.name, authority.ca_file.name))
    return server


@pytest.mark.parametrize(
    ("in_days", "address", "why"),
    [
        (20, "127.0.0.1", "is not valid yet by this machine's clock, which says .*; set the clock"),
        (-20, "127.0.0.1", "has expired; renew it at the hub"),
        (0, "127.0.0.9", "is for another name"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_a_sentence_of_its_own(
    school: School, in_days: int, address: str, why: str
) -> None:
    server = serve(school, in_days, address)
    try:
        with pytest.raises(HubUntrusted, match=why):
            school.agent().round()
        assert failing(school).startswith("hub's certificate: ")
        assert steps_of(school)["hub reached"]
    finally:
        server.stop()


def test_a_port_that_speaks_no_tls_is_a_sentence_too(school: School) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        school.configure(hub=f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert "no TLS is spoken there" in failing(school)
        thread.join()


def test_without_its_extra_the_agent_names_it(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    with pytest.raises(MissingExtra, match="install tapgate with the extra 'agent'"):
        school.agent()
    assert "extra 'agent'" in failing(school)


def test_check_config_knows_the_agents_file_too(school: School, capsys: pytest.CaptureFixture[str]) -> None:
    path = school.folder / "agent.toml"
    assert main(["check-config", str(path)]) == 0
    assert "csv is read for st-marys/mis" in capsys.readouterr().out
    text = path.read_text()
    path.write_text(text.replace("card_encoding", "card_encodign"))
    assert main(["check-config", str(path)]) == 2
    assert f"{path}:12: source.card_encodign: is not known" in capsys.readouterr().err
    path.write_text(text)
    (school.folder / "agent.token").unlink()
    assert main(["check-config", str(path)]) == 2
    assert "agent.token_file" in capsys.readouterr().err
