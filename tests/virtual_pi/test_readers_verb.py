"""`tapgate readers` on the virtual Pi."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.simulator.virtual_pi import VirtualPi

_CONFIG = """
[gateway]
id = "gw-canteen"
site = "st-marys"
site_key_file = "site.key"

[[reader]]
id = "lane-1"
driver = "rc522"
port = "/dev/spidev0.0"
point = "lane-1"

[[point]]
id = "lane-1"
kind = "lane"
"""
_VERB = "import argparse, sys; from gateway.commands import readers; p = argparse.ArgumentParser(); \
readers.add_arguments(p); sys.exit(readers.run(p.parse_args()))"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(_CONFIG)
    return path


def verb(pi: VirtualPi, *words: object) -> tuple[int, str]:
    child = pi.spawn([sys.executable, "-c", _VERB, *map(str, words)], stdout=subprocess.PIPE)
    out, _ = child.communicate(timeout=60)
    return child.returncode, out


def test_a_working_reader_is_tested_and_shows_no_card_number(pi: VirtualPi, config: Path) -> None:
    pi.enter("spidev0.0", "ntag", "04a1b2c3d4e5f6")
    words = ("test", "lane-1", "--config", config, "--seconds", 0.5, "--self-test")
    code, out = verb(pi, *words, "--json")
    report = json.loads(out)
    assert (code, report["reads"], report["self_test"]) == (0, 1, True)
    assert report["vitals"]["firmware"] == "MFRC522 v2.0"
    _, text = verb(pi, *words)
    assert "ends in E5F6" in text
    assert "A1B2" not in text.upper()


def test_an_absent_reader_is_exit_code_three_and_says_what_to_check(pi: VirtualPi, config: Path) -> None:
    pi.order("spidev0.0", "break", level=0)
    code, out = verb(pi, "test", "lane-1", "--config", config, "--json")
    assert code == 3
    assert "wiring" in json.loads(out)["problem"]


def test_the_list_names_drivers_and_configured_readers(pi: VirtualPi, config: Path) -> None:
    code, out = verb(pi, "list", "--config", config, "--json")
    report = json.loads(out)
    assert "rc522" in report["drivers"]
    assert report["readers"][0]["id"] == "lane-1"
    # The virtual Pi answers open, not stat, so the port counts as missing here.
    assert code == 1


def test_a_trace_replays_without_the_card_number_that_was_held_to_the_reader(
    pi: VirtualPi, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lane-1.jsonl"
    pi.enter("spidev0.0", "ntag", "04a1b2c3d4e5f6")
    code, said = verb(pi, "trace", "lane-1", "--config", config, "--seconds", 0.4, "--out", out)
    assert code == 0, said
    assert "1 cards" in said
    text = out.read_text()
    assert "04a1b2" not in text
    assert "c3d4e5f6" not in text
    code, said = verb(pi, "replay", out)
    assert code == 0
    assert "card read: ntag, 7 bytes" in said
    assert "E5F6" not in said
