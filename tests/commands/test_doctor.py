from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.commands.doctor_unit import CannotLookInside, parse_unit
from gateway.commands.readable import Account, _has, may_read

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


def _rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    main(["doctor", "--json", "--config", str(folder / "gateway.toml")])
    rows: list[dict[str, str]] = json.loads(capsys.readouterr().out)["checks"]
    return rows


def _failing(rows: list[dict[str, str]], check: str) -> dict[str, str]:
    [row] = [row for row in rows if row["check"] == check and row["state"] == "fail"]
    return row


SPOILT_HUB = '[hub]\nurl = "mqtts://127.0.0.1:9"\n'


@pytest.mark.parametrize("content", [None, b"", b"hello"])
@pytest.mark.parametrize("key", ["ca_file", "cert_file", "password_file"])
def test_a_file_of_the_hub_link_that_the_daemon_could_not_use_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, content: bytes | None
) -> None:
    if (key, content) == ("password_file", b"hello"):
        return  # any text is a password
    _doctor(tmp_path, capsys)
    path = tmp_path / "spoilt"
    if content is not None:
        path.write_bytes(content)
    text = (tmp_path / "gateway.toml").read_text(encoding="utf-8")
    hub = f'{SPOILT_HUB}{key} = "spoilt"\nusername = "gw"\n'
    (tmp_path / "gateway.toml").write_text(text.replace('[hub]\nurl = "mqtt://127.0.0.1:9"\n', hub), encoding="utf-8")
    rows = _rows(tmp_path, capsys)
    assert any(str(path) in row["evidence"] and row["fix"] for row in rows if row["state"] == "fail")


def test_a_site_key_that_is_missing_or_spoilt_costs_its_own_row_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _doctor(tmp_path, capsys)
    (tmp_path / "site.key").write_text("abc", encoding="ascii")
    (tmp_path / "site.key").chmod(0o600)
    rows = _rows(tmp_path, capsys)
    assert "it has 3 characters" in _failing(rows, "site key")["evidence"]
    assert {"state folder", "journal", "roster", "gpio"} <= {row["check"] for row in rows}
    (tmp_path / "site.key").unlink()
    assert "No such file" in _failing(_rows(tmp_path, capsys), "site key")["evidence"]


def test_a_gateway_key_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _doctor(tmp_path, capsys)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gateway.key").write_text("x", encoding="ascii")
    assert "gateway.key cannot be used" in _failing(_rows(tmp_path, capsys), "gateway key")["evidence"]


UNIT = """\
# /etc/systemd/system/tapgate.service
[Unit]
Description=Tapgate
[Service]
Slice=tapgate.slice
Type=notify
ExecStartPre=-/usr/bin/tapgate guard
ExecStart=/usr/bin/tapgate run --config /etc/tapgate/gateway.toml
Restart=always
User=tapgate
StateDirectory=tapgate
RuntimeDirectory=tapgate
WorkingDirectory=/run/tapgate
Environment=LG_WD=/run/tapgate
# a comment
DeviceAllow=char-spi rw \\
 more
CapabilityBoundingSet=
[Install]
WantedBy=multi-user.target

# /etc/systemd/system/tapgate.service.d/site.conf
[Service]
IPAddressAllow=203.0.113.7
"""


def test_the_unit_s_own_lines_become_a_unit_that_makes_and_restarts_nothing() -> None:
    unit = parse_unit(UNIT)
    assert (unit.program, unit.config) == ("/usr/bin/tapgate", Path("/etc/tapgate/gateway.toml"))
    assert unit.lines == (
        "RuntimeDirectory=tapgate-doctor",
        "Slice=tapgate.slice",
        "User=tapgate",
        "ReadWritePaths=-/var/lib/tapgate",
        "WorkingDirectory=/run/tapgate-doctor",
        "Environment=LG_WD=/run/tapgate-doctor",
        "DeviceAllow=char-spi rw   more",
        "CapabilityBoundingSet=",
        "IPAddressAllow=203.0.113.7",
    )


def test_a_unit_that_names_no_configuration_is_looked_at_from_outside() -> None:
    with pytest.raises(CannotLookInside, match="names no --config"):
        parse_unit("[Service]\nExecStart=/usr/bin/tapgate run\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away, which only root may")
@pytest.mark.parametrize(
    ("mode", "gids", "readable"),
    [(0o600, set(), False), (0o640, set(), False), (0o640, {1234}, True), (0o644, set(), True), (0o604, {1234}, False)],
)
def test_who_can_read_a_file_is_judged_by_its_modes(tmp_path: Path, mode: int, gids: set[int], readable: bool) -> None:
    # tmp_path lies below folders that only root may enter, so the file is judged by itself.
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    os.chown(path, 0, 1234)
    account = Account("tapgate", 991, frozenset(gids))
    assert _has(path.stat(), account, 0o4) is readable
    assert not may_read(path, account) or all(parent.stat().st_mode & 1 for parent in path.parents)
