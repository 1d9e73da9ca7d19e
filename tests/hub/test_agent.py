"""An agent at a school reads a database or an export, and a hub elsewhere takes it as if it read it itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from gateway.agent import hub as agent_hub
from gateway.agent import work
from gateway.agent.hub import HubRefused, HubUnreachable
from gateway.agent.loop import pause_minutes
from gateway.agent.settings import load_agent
from gateway.cli import main
from gateway.errors import BadRecord, ConfigError, SourceRefused, SourceUnreachable
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms
from gateway.hub.sync import uploads
from gateway.mis.base import CardClaim, Complete, Gone, Notice, PersonFields, Record, Shape, Unreadable
from gateway.mis.lines import MAX_LINE, read_line, write_line
from tests.certificates import Authority
from tests.hub.agent_school import ROWS, SQL, School


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    school = School(tmp_path)
    yield school
    school.stop()


def test_what_the_agent_reads_arrives_as_if_the_hub_had_read_it(school: School) -> None:
    done = school.agent().round()
    assert (done.lines, done.sent, done.is_same) == (4, 4, False)
    report = school.sync(first=True)
    assert (report.feed.complete, report.applied) == (True, 4)
    assert school.people() == {"007": "active", "008": "active"}
    assert school.sync().as_json()["unchanged"]


def test_no_card_number_leaves_the_school_nor_stays_on_the_agents_disk(school: School) -> None:
    school.agent().round()
    kept = b"".join(path.read_bytes() for path in (school.folder / "agent-state").iterdir())
    for number in ("04A1B2C3D4E5F6", "A1B2C3D4"):
        assert number.encode() not in b"".join(school.lines()) + kept
    assert oct((school.folder / "agent-state" / work.READ_FILE).stat().st_mode)[-3:] == "600"


def test_a_source_that_reads_like_last_time_is_only_said_to_be_the_same(school: School) -> None:
    school.agent().round()
    done = school.agent().round()
    assert (done.sent, done.is_same) == (0, True)
    school.export(*ROWS, ("009", "Cid", "Moor", ""))
    assert school.agent().round().sent == 5


def test_a_leaver_is_missing_and_then_gone_as_in_an_export_that_the_hub_reads(school: School) -> None:
    school.agent().round()
    school.sync(first=True)
    school.export(ROWS[0])
    school.agent().round()
    school.sync()
    assert school.people() == {"007": "active", "008": "missing"}
    school.sync()
    assert school.people() == {"007": "active", "008": "inactive"}


def test_an_sql_view_is_read_at_the_school_too(school: School) -> None:
    with sqlite3.connect(school.folder / "mis.db") as database:
        database.execute("CREATE TABLE pupil (id TEXT, first TEXT, last TEXT, card TEXT, secret TEXT)")
        database.executemany("INSERT INTO pupil VALUES (?, ?, ?, ?, 'x')", ROWS)
        database.execute("CREATE VIEW pupils AS SELECT * FROM pupil")
    school.configure(SQL.replace("{{", "{").replace("}}", "}"))
    school.agent().round()
    school.sync(first=True)
    assert set(school.people()) == {"007", "008"}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 30))
def test_a_connection_that_breaks_anywhere_goes_on_at_the_hubs_line(school: School, cut: int) -> None:
    school.export(*[(f"{number:03}", f"First{cut}x{number}", "Last", "") for number in range(30)])
    before = work._PIECE_BYTES
    work._PIECE_BYTES = 200
    try:
        agent = school.agent()
        whole, taken = agent._hub.append, [0]

        def breaking(upload: int, first: int, lines: bytes) -> int:
            if taken[0] == cut:
                raise HubUnreachable("cut")
            taken[0] += 1
            return whole(upload, first, lines)

        agent._hub.append = breaking  # type: ignore[method-assign]  # a cable that is pulled
        try:
            agent.round()
        except HubUnreachable:
            school.agent().send()
    finally:
        work._PIECE_BYTES = before
    sent = (school.folder / "agent-state" / work.READ_FILE).read_bytes().splitlines()
    assert school.lines() == sent, "no line is doubled and none is lost"


def test_a_new_read_while_the_old_one_is_under_way_takes_its_place(school: School) -> None:
    agent = school.agent()
    agent._read()
    upload = agent._hub.begin()
    agent._hub.append(upload, 0, (school.folder / "agent-state" / work.READ_FILE).read_bytes().splitlines(True)[0])
    agent._keep_state({"digest": "of another read", "upload": upload})
    agent.send()
    assert len(school.lines()) == 4
    with pytest.raises(HubRefused, match="no source"):
        agent._hub.append(upload, 1, b"x\n")


def test_a_token_of_another_school_or_without_the_right_sends_nothing(school: School) -> None:
    school.configure(site="st-johns")
    with pytest.raises(HubRefused, match="has no source st-johns/mis"):
        school.agent().round()
    for scope in ("people:read",):
        school.configure()
        school.token("st-marys", scope)
        with pytest.raises(HubRefused, match="does not accept the token"):
            school.agent().round()
    (school.folder / "agent.token").write_text("tg_unknown")
    with pytest.raises(HubRefused, match="accounts token --scopes agent:write --site st-marys"):
        school.agent().round()
    assert school.lines() == []


def test_lines_that_are_none_are_refused_and_nothing_of_that_request_is_kept(school: School) -> None:
    good = write_line(Notice("x"))
    hub = school.agent()._hub
    upload = hub.begin()
    assert hub.append(upload, 0, good) == 1
    for bad in (b"{}\n", b'["record", {}]\n', b'["dance", {}]\n', b"\xff\n", b"[" * 5000 + b"\n"):
        with pytest.raises(HubRefused, match=r"422.*Line 2"):
            hub.append(upload, 1, good + bad)
        assert hub.next_line(upload) == 1
    with pytest.raises(HubRefused, match="next line is 1"):
        hub.append(upload, 0, good)
    assert hub.append(upload, 1, good + b'["notice"') == 2, "a last line without its end waits for the rest"
    with pytest.raises(HubRefused, match="not what was sent"):
        hub.complete(upload, 2, "0" * 64)
    with pytest.raises(HubRefused, match="2 lines have arrived, not 3"):
        hub.complete(upload, 3, "0" * 64)


def test_a_read_that_is_too_large_is_refused(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    with pytest.raises(HubRefused, match="at most"):
        school.agent().round()


def test_no_whole_read_and_a_silent_agent_keep_everybody_where_they_are(school: School) -> None:
    with pytest.raises(SourceRefused, match="has not sent a whole read"):
        school.sync(first=True)
    school.agent().round()
    school.sync(first=True)
    with school.store.write() as connection:
        connection.execute(update(tables.upload).values(seen_ms=now_ms() - 25 * 3600 * 1000))
    with pytest.raises(SourceRefused, match="not been heard for 25 h"):
        school.sync()
    assert set(school.people().values()) == {"active"}
    school.agent().round()
    assert school.sync().feed.complete


def test_a_source_that_cannot_be_read_is_told_to_the_hub_and_sends_nothing_else(school: School) -> None:
    (school.folder / "people.csv").unlink()
    with pytest.raises((SourceRefused, SourceUnreachable)):
        school.agent().round()
    with school.store.read() as connection:
        errors = connection.scalars(select(tables.sync_run.c.error)).all()
    assert len(errors) == 1
    assert errors[0] is not None
    assert errors[0].startswith("object_missing: ")


def test_check_names_the_step_that_fails(school: School, capsys: pytest.CaptureFixture[str]) -> None:
    def check() -> tuple[int, dict[str, bool | None]]:
        code = main(["agent", "check", "--config", str(school.folder / "agent.toml"), "--json"])
        found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        return code, {row["step"]: row["ok"] for row in found["steps"]}

    code, steps = check()
    assert (code, set(steps.values())) == (0, {True})
    (school.folder / "people.csv").unlink()
    (school.folder / "agent.token").write_text("wrong")
    code, steps = check()
    assert code == 3
    assert [name for name, is_good in steps.items() if is_good is False] == ["database or file", "token and source"]
    school.configure(hub="https://127.0.0.1:1")
    code, steps = check()
    assert [name for name, is_good in steps.items() if is_good] == ["settings", "site key", "client driver"]
    assert [name for name, is_good in steps.items() if is_good is False] == ["database or file", "hub reached"]


def test_a_certificate_that_is_not_trusted_and_a_clock_that_is_wrong_are_sentences(
    school: School, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = Authority(school.folder, "other-ca").ca_file
    text = (school.folder / "agent.toml").read_text().replace(school.ca_file.name, foreign.name)
    (school.folder / "agent.toml").write_text(text)
    with pytest.raises(HubUnreachable, match=r"not trusted; name the authority that signed it as ca_file"):
        school.agent().round()
    school.configure()
    monkeypatch.setattr(agent_hub.time, "time", lambda: 0.0)
    assert main(["agent", "check", "--config", str(school.folder / "agent.toml")]) == 3
    assert "FAIL clock: This machine's clock differs" in capsys.readouterr().out


def test_one_round_from_the_command_line(school: School, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["agent", "run", "--once", "--config", str(school.folder / "agent.toml"), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"lines": 4, "sent": 4, "same": False}
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"lines": 4, "sent": 0, "same": True}


def test_after_failures_it_waits_longer_and_longer() -> None:
    assert [pause_minutes(15, failures) for failures in (0, 1, 2, 3, 4, 9)] == [15, 1, 5, 15, 60, 60]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("https://", "http://hub.example//"), "hub: must be the hub's address"),
        (('site = "st-marys"', 'site = "st marys"'), "agent.site"),
        (('kind = "csv"', 'kind = "wonde"'), "must be one of csv"),
        (('path = "people.csv"', 'way = "people.csv"'), "way: is not known|path: is missing"),
        (("[source]", "[sauce]"), "sauce"),
    ],
)
def test_settings_that_cannot_be_used_are_named_with_their_line(
    school: School, change: tuple[str, str], why: str
) -> None:
    path = school.folder / "agent.toml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError, match=why):
        load_agent(path)


RECORD = Record("1", PersonFields("student", "Ann", "Smith"), (CardClaim("a" * 32, "E5F6", "uid"),), "line 2")


@pytest.mark.parametrize(
    "item",
    [
        RECORD,
        replace(RECORD, cards=None),
        Gone("student", "1", "line 2", "status"),
        Unreadable("line 3", "no name", None),
        Notice("Zoë"),
        Shape({"card": "Card"}),
        Complete(3, "students"),
    ],
)
def test_every_item_of_a_read_survives_as_a_line(item: Any) -> None:
    assert read_line(write_line(item)) == item


def spoil(**fields: Any) -> Callable[[], bytes]:
    return lambda: write_line(replace(RECORD, **fields))


@pytest.mark.parametrize(
    "line",
    [
        spoil(cards=(CardClaim("04A1B2C3D4E5F6", "E5F6", "uid"),)),
        spoil(cards=(CardClaim("a" * 32, "A1B2C3D4E5F6", "uid"),)),
        spoil(cards=(CardClaim("a" * 32, "E5F6", "uid"),) * 100),
        spoil(person_key="x" * 2000),
        spoil(fields=PersonFields("head", "Ann", "Smith")),
        spoil(fields=PersonFields("student", "A" * 200, "Smith")),
        lambda: write_line(Complete(1, "unicorns")),
        lambda: write_line(Notice("x" * MAX_LINE)),
    ],
)
def test_a_line_that_holds_more_than_an_item_may_is_refused(line: Callable[[], bytes]) -> None:
    with pytest.raises(BadRecord):
        read_line(line())
