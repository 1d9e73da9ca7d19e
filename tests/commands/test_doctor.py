from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from gateway.cli import main

GATEWAY = """
[gateway]
id = "gw"
site = "st-marys"
state_dir = "state"
site_key_file = "site.key"
[hub]
url = "mqtt://127.0.0.1:{port}"
[[reader]]
id = "lane-1"
driver = "rc522"
port = "/dev/spidev9.9"
point = "lane-1"
reset_gpio = 25
[[point]]
id = "lane-1"
kind = "door"
strike_gpio = 0
lock = "fail-secure"
egress = "mechanical"
"""


def _doctor(
    folder: Path, capsys: pytest.CaptureFixture[str], port: int | str = 9
) -> tuple[int, dict[str, dict[str, str]]]:
    (folder / "site.key").write_text("ab" * 32, encoding="ascii")
    (folder / "site.key").chmod(0o600)
    (folder / "gateway.toml").write_text(GATEWAY.format(port=port), encoding="utf-8")
    code = main(["doctor", "--json", "--config", str(folder / "gateway.toml")])
    printed = capsys.readouterr().out
    assert "ab" * 16 not in printed
    return code, {row["check"]: row for row in json.loads(printed)["checks"]}


def test_each_failing_check_says_what_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = _doctor(tmp_path, capsys)
    assert code == 3
    assert rows["reader lane-1"]["state"] == "fail"
    assert "dtparam=spi=on" in rows["reader lane-1"]["fix"]
    assert rows["hub link"]["state"] == "fail"
    assert (rows["roster"]["state"], rows["journal"]["state"]) == ("note", "note")
    assert rows["configuration"]["state"] == "good"
    assert all(row["fix"] for row in rows.values() if row["state"] != "good")
    assert rows["site key"]["state"] == "good"


def test_reset_pins_and_pin_0_are_counted_as_pins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = _doctor(tmp_path, capsys)
    assert rows["gpio"]["state"] == "fail"
    assert rows["gpio"]["evidence"].startswith("2 pins are configured. GPIO does not work here (RPi.GPIO: ")


def test_a_broker_of_which_one_node_answers_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as broker:
        broker.bind(("127.0.0.1", 0))
        broker.listen()
        code, rows = _doctor(tmp_path, capsys, f"{broker.getsockname()[1]},127.0.0.1:9")
    assert "127.0.0.1:9 " in rows["hub link"]["evidence"]
    assert (rows["hub link"]["state"], code) == ("warn", 3)


def test_a_broker_that_answers_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as broker:
        broker.bind(("127.0.0.1", 0))
        broker.listen()
        _, rows = _doctor(tmp_path, capsys, broker.getsockname()[1])
    assert rows["hub link"]["state"] == "good"


def test_errors_of_the_configuration_are_rows_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.toml").write_text("[gateway]\nid = 'x y'\n", encoding="utf-8")
    assert main(["doctor", "--json", "--config", str(tmp_path / "gateway.toml")]) == 3
    found = json.loads(capsys.readouterr().out)
    assert any("gateway.toml:2: gateway.id" in row["evidence"] for row in found["checks"])


def test_a_site_key_that_everybody_may_read_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _doctor(tmp_path, capsys)
    (tmp_path / "site.key").chmod(0o644)
    main(["doctor", "--config", str(tmp_path / "gateway.toml")])
    shown = capsys.readouterr().out
    assert "FAIL  site key" in shown
    assert "-> chmod 640" in shown


def test_an_empty_journal_folder_is_read_as_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _doctor(tmp_path, capsys)
    journal = tmp_path / "state" / "journal"
    journal.mkdir(parents=True)
    _, rows = _doctor(tmp_path, capsys)
    assert rows["journal"]["evidence"].startswith("0 events")


def test_without_a_configuration_it_looks_at_the_machine_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) in {0, 1, 3}
    assert {"python", "board", "clock"} <= {row["check"] for row in json.loads(capsys.readouterr().out)["checks"]}
