"""A school connects a live MIS from the command line: test, look for the card field, sync, a leaver, a fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.simulator.mis.school import TOKEN, Faults, sample_members
from gateway.simulator.mis.wonde import SCHOOL, FakeWonde

TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "st-marys"
site_key_file = "site.key"
[[site.source]]
name = "mis"
kind = "wonde"
base_url = "{url}"
school_id = "{school}"
token_file = "wonde.token"
patience_s = 1
{paths}
"""


@pytest.fixture
def wonde() -> Iterator[FakeWonde]:
    with FakeWonde(sample_members(230)).running() as running:
        yield running


def mis(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    where = ["--config", str(folder / "hub.toml"), "--site", "st-marys", "--source", "mis", "--json"]
    code = main(["mis", *words, *where])
    return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def write(folder: Path, wonde: FakeWonde, paths: str = "") -> None:
    (folder / "site.key").write_text("11" * 32)
    (folder / "wonde.token").write_text(TOKEN)
    (folder / "hub.toml").write_text(TOML.format(url=wonde.base_url, school=SCHOOL, paths=paths))


def test_a_school_finds_its_card_field_and_comes_in(
    tmp_path: Path, wonde: FakeWonde, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, wonde)
    assert mis(tmp_path, capsys, "check")[0] == 0
    code, found = mis(tmp_path, capsys, "discover")
    likely = [item["path"] for item in found["fields"] if item["card_like"]]
    assert (code, likely[0]) == (0, "identifiers.data.card_number")
    write(tmp_path, wonde, f'card_paths = ["{likely[0]}"]')
    code, report = mis(tmp_path, capsys, "sync", "--first")
    assert (code, report["create"], report["cards"]["link"]) == (0, 238, 238)
    assert report["lists"]["students"] == {"read": 230, "expected": 230, "complete": True}
    assert mis(tmp_path, capsys, "sync")[1]["unchanged"]


def test_a_fault_midway_changes_nobody_and_a_leaver_is_missing_then(
    tmp_path: Path, wonde: FakeWonde, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, wonde, 'card_paths = ["identifiers.data.card_number"]')
    mis(tmp_path, capsys, "sync", "--first")
    wonde.members[3].is_gone = True
    wonde.faults = Faults(page=2, status=500)
    assert mis(tmp_path, capsys, "sync") == (
        3,
        {
            "ok": False,
            "complete": False,
            "failure": "server_fault",
            "detail": "Wonde has a fault of its own; it is tried again later (500).",
        },
    )
    wonde.faults = Faults()
    assert mis(tmp_path, capsys, "sync")[1]["remove"] == 1
    wonde.state = "revoked"
    assert mis(tmp_path, capsys, "check")[1]["failure"] == "revoked"
