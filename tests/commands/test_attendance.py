"""`tapgate attendance` as a person who sets a school up, and one in an office, use it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from gateway import cli
from gateway.hub.directory.sites import list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.times import to_ms
from gateway.hub.sync.run import Wish, sync

HUB = """
[hub]
broker = "mqtt://127.0.0.1:1883"
state_dir = "state"

[[site]]
id = "st-marys"
site_key_file = "site.key"

[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
one_way = true

[[site.session]]
name = "AM"
opens = "08:30"
starts = "08:45"
closes = "09:15"
ends = "12:00"

[[site.action]]
name = "Doctor's appointment"
kind = "check"
direction = "out"
code = "M"
"""
DAY = ["--day", "2026-11-20"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "site.key").write_text("ab" * 32)
    path = tmp_path / "hub.toml"
    path.write_text(HUB)
    return path


def explain(config: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, object]], str]:
    code = cli.main(["attendance", "explain", "--config", str(config), *DAY, "--json", *words])
    *lines, last = capsys.readouterr().out.splitlines()
    return code, json.loads(last)["marks"], "\n".join(lines)


def write(path: Path, value: object) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def test_movements_and_a_register_become_marks_and_nothing_is_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moves = [
        {"person_key": "0007", "at": "2026-11-20T08:50:00Z", "direction": "in"},
        {"person_key": "0008", "at": "10:30", "action": "doctor-s-appointment"},
        {"person_key": "0009", "at": "08:55", "direction": "in"},
    ]
    mis = {"marks": [{"person_key": "0009", "session": "AM", "code": "I"}], "on_roll": ["0007", "0008", "0009"]}
    words = ["--movements", write(tmp_path / "moves.json", moves), "--mis", write(tmp_path / "mis.json", mis)]
    code, marks, text = explain(config, capsys, *words)
    assert code == 0
    assert [
        (mark["person_key"], mark["code"], mark["minutes_late"], mark["verdict"], mark["why"]) for mark in marks
    ] == [
        ("0007", "L", 5, "write", None),
        ("0008", "M", None, "write", None),
        ("0009", "L", 10, "never", "alarm"),
    ]
    assert "0007 AM: L, 5 min: write" in text
    assert not (tmp_path / "state").exists()


def test_before_the_register_is_read_a_reason_is_held_and_without_the_mis_everything(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moves = [{"person_key": "8", "at": "10:30", "action": "doctor-s-appointment"}]
    path = write(tmp_path / "moves.json", {"movements": moves})
    early = write(tmp_path / "mis.json", {"marks": [], "read_at": "09:00"})
    code, marks, _ = explain(config, capsys, "--movements", path, "--mis", early, "--now", "10:31")
    assert (code, marks[0]["verdict"], marks[0]["why"]) == (1, "hold", "register_not_read")
    moves[0] |= {"at": "08:50", "action": None, "direction": "in"}
    code, marks, _ = explain(config, capsys, "--movements", write(tmp_path / "moves.json", moves))
    assert (code, marks[0]["verdict"], marks[0]["why"]) == (1, "hold", "cannot_read")


def test_a_csv_file_will_do(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "moves.csv"
    path.write_text("person_key,at,direction,kind,clock\n7,08:50,in,sign,\n8,08:50,in,sign,free\n")
    mis = tmp_path / "mis.csv"
    mis.write_text("person_key,session,code\n7,AM,/\n")
    code, marks, _ = explain(config, capsys, "--movements", str(path), "--mis", str(mis))
    assert code == 1
    assert [(mark["verdict"], mark["why"]) for mark in marks] == [("never", None), ("hold", "time_unsure")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be a list of objects"),
        ('[{"at": "08:50", "direction": "in"}]', "Movement 1 of .* lacks person_key"),
        ('[{"person_key": "7", "at": "late", "direction": "in"}]', "Movement 1 of .* has no usable time"),
        ('[{"person_key": "7", "at": "08:50", "direction": "up"}]', 'needs direction "in" or "out"'),
        ('[{"person_key": "7", "at": "08:50", "action": "gone"}]', "an action that hub.toml does not have"),
        ('[{"person_key": "7", "at": "08:50", "direction": "in", "at_error_ms": -1}]', "at_error_ms"),
        ('[{"person_key": "7", "at": "08:50", "direction": "in", "at_error_ms": "\u00b2"}]', "at_error_ms"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    config: Path, tmp_path: Path, content: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "moves.json"
    path.write_text(content)
    words = ["attendance", "explain", "--config", str(config), *DAY, "--movements", str(path)]
    assert cli.main(words) == 3
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert re.search(complaint, said)


def test_a_cell_that_no_csv_holds_is_one_sentence(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "movements.csv"
    path.write_text('person_key,at,direction\n7,"' + "x" * 200_000 + '",in\n')
    assert cli.main(["attendance", "explain", "--config", str(config), *DAY, "--movements", str(path)]) != 0
    text = capsys.readouterr().err
    assert "cannot be read as CSV" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('closes = "09:15"', 'closes = "08:15"', "must follow one another"),
        ('opens = "08:30"', 'opens = "8:30"', 'must be a local time such as "08:45"'),
        ('name = "AM"\n', 'name = "AM"\ndays = "mon-fry"\n', 'must be such as "mon-fri"'),
        ('code = "M"', 'code = "M"\ncodes = { before_ends = "U" }', "stands beside code"),
        ('direction = "out"\ncode = "M"', 'direction = "in"\ncodes = { before_closes = "L" }', "need before_ends"),
        ('direction = "out"', 'direction = "up"', "must be one of in, out"),
        ("Doctor's appointment", "D" * 101, "must have 1 to 100 characters"),
        ("one_way = true", "one_way = false", "this release writes nothing to an MIS"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_with_their_line(
    config: Path, before: str, after: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert before in HUB
    config.write_text(HUB.replace(before, after))
    assert cli.main(["check-config", str(config)]) == 2
    assert complaint in capsys.readouterr().err


def test_two_sessions_at_once_and_two_actions_of_one_name_are_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = '\n[[site.session]]\nname = "DAY"\nopens = "08:30"\nstarts = "09:00"\ncloses = "09:15"\nends = "15:00"\n'
    action = '\n[[site.action]]\nname = "Doctor\'s appointment"\ndirection = "out"\ncode = "M"\n'
    config.write_text(HUB + session + action)
    assert cli.main(["check-config", str(config)]) == 2
    said = capsys.readouterr().err
    assert "AM and DAY overlap" in said
    assert "is there already" in said


def hub(config: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["attendance", *words, "--config", str(config), *DAY])
    out = capsys.readouterr()
    return code, out.out + out.err


def fill(config: Path) -> None:
    """Let a pupil in from the export, with a movement at 08:52."""
    (config.parent / "people.csv").write_text("Student ID,First name,Last name,Role\n00123,Ann,Smith,student\n")
    settings = read_settings(config)
    store = prepare_store(settings)
    with store.read() as connection:
        (source,) = list_sources(connection)
    sync(store, source, config.parent, Wish(first=True))
    with store.write() as connection:
        number = connection.scalar(
            insert(tables.gateway).values(site="st-marys", name="gw").returning(tables.gateway.c.id)
        )
        ref = connection.scalar(select(tables.person.c.ref))
        at_ms = to_ms(datetime(2026, 11, 20, 8, 52, tzinfo=UTC))
        values = {"gateway": number, "epoch": "e", "seq": 1, "site": "st-marys", "person": ref, "kind": "sign"}
        values |= {"direction": "in", "at_ms": at_ms, "at_how": "set", "point": "desk", "automatic": False}
        connection.execute(insert(tables.movement).values(values))
    store.close()


def test_the_marks_of_a_day_are_listed_and_one_is_decided_by_hand(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(config)
    assert hub(config, capsys, "marks") == (0, "00123 AM: L, 7 min: proposed\n")
    code, text = hub(
        config, capsys, "mark", "--person-key", "00123", "--session", "AM", "--code", "M", "--reason", "dentist"
    )
    assert (code, text) == (0, "Decided.\n")
    code, text = hub(config, capsys, "marks", "--json")
    assert code == 0
    [mark] = json.loads(text.splitlines()[-1])["marks"]
    assert (mark["code"], mark["state"], mark["comment"]) == ("M", "decided", "dentist")
    assert mark["evidence"] == ["in 2026-11-20T08:52:00+00:00 desk"]
    hub(config, capsys, "mark", "--person-key", "00123", "--session", "AM", "--code", "movements")
    assert hub(config, capsys, "marks")[1] == "00123 AM: L, 7 min: proposed\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("mark", "--session", "AM", "--code", "L"), "--person-key: is needed for mark"),
        (("mark", "--person-key", "9", "--session", "AM", "--code", "L"), "no pupil with the id '9' at st-marys"),
        (("mark", "--person-key", "00123", "--session", "PM", "--code", "L"), "no register PM on 2026-11-20"),
        (("explain",), "--movements: is needed for explain"),
    ],
)
def test_what_cannot_be_decided_is_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    fill(config)
    code, text = hub(config, capsys, *words)
    assert code != 0
    assert sentence in text
    assert "Traceback" not in text
