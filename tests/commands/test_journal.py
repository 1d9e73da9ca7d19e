from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gateway.access.event import split_events
from gateway.commands import journal as verb
from gateway.errors import FatalError
from gateway.journal.segments import segment_path
from tests.journal.journals import fill, small


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def state_folder(tmp_path: Path) -> Path:
    journal = small(tmp_path / "journal")
    fill(journal, 120)
    journal.acknowledge(40)
    journal.close()
    return tmp_path


def test_list_shows_the_last_events_and_no_card_key(state_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", state_folder, "--limit", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "confirmed by the hub to 40" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["118", "119", "120"]
    assert "..E5F6" in lines[1]
    assert f"{117:032x}" not in lines[1]


def test_list_as_json_gives_the_stored_bytes(state_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", state_folder, "--after", "0", "--limit", "200", "--json") == 0
    events = split_events(capsys.readouterr().out.encode())
    assert len(events) == 120
    assert json.loads(events[119])["seq"] == 120


def test_verify_says_whole_and_exits_0(state_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", state_folder) == 0
    assert "chain is unbroken" in capsys.readouterr().out


def test_verify_names_what_is_missing_and_exits_1(state_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segment_path(state_folder / "journal", 1)
    data = bytearray(path.read_bytes())
    data[9000] ^= 1
    path.write_bytes(bytes(data))
    assert run("verify", state_folder, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [finding["kind"] for finding in report["findings"]] == ["damage", "missing"]
    assert run("verify", state_folder / "journal") == 1
    assert "cannot be read" in capsys.readouterr().out


def test_export_writes_every_event_byte_for_byte(
    state_folder: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run("export", state_folder, "--output", tmp_path / "events.jsonl") == 0
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 121))
    capfdbinary.readouterr()
    assert run("export", state_folder) == 0
    assert capfdbinary.readouterr().out.splitlines() == lines


def test_a_folder_without_a_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="state_dir"):
        run("list", tmp_path)
