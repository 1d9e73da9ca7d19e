from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from gateway.config import BrokerSettings
from gateway.errors import ConfigError, FatalError
from gateway.hub.app import build
from gateway.hub.settings import read_settings
from gateway.simulator.school import sample_school
from tests.hub.samples import mosquitto, wait_until

TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:{port}"
{extra}
[web]
host = "{host}"
port = 0
[[site]]
id = "st-marys"
site_key_file = "site.key"
trust_unenrolled = true
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
columns = {{ person_key = "Student ID", card = "Card", role = "Type", groups = "Form" }}
"""

MAIL = '[mail]\nsmtp = "smtp://127.0.0.1:25"\nfrom = "tapgate@school.example"\nto = ["it@school.example"]\n'
SIGN_IN = '[sign_in]\npublic_url = "https://hub.school.example"\n'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerSettings]:
    with mosquitto(tmp_path) as (settings, _):
        yield settings


def write(folder: Path, port: int, *, host: str = "127.0.0.1", extra: str = "") -> Path:
    (folder / "site.key").write_text(bytes(range(32)).hex())
    sample_school(60).write_csv(folder / "people.csv")
    path = folder / "hub.toml"
    path.write_text(TOML.format(port=port, host=host, extra=extra))
    return path


@pytest.mark.mosquitto
def test_the_daemon_says_ready_to_the_service_manager_syncs_by_itself_and_ends_cleanly_on_sigterm(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    config = write(tmp_path, broker.port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
        hub = subprocess.Popen(
            [sys.executable, "-m", "gateway", "hub", "--config", str(config)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert notices.recv(1000) == b"READY=1"
            assert hub.stdout is not None
            address = hub.stdout.readline().split()[-1]
            assert b"WATCHDOG=1" in notices.recv(1000)

            def synced() -> bool:
                runs = httpx.get(f"{address}/v1/syncs").json()["runs"]
                return any(run["result"] == "held" and run["report"]["create"] == 63 for run in runs)

            wait_until(synced, "the first read does not run by itself")
            wait_until(lambda: httpx.get(f"{address}/health/ready").json()["ready"], "not ready")
            assert httpx.get(f"{address}/health/live").json() == {"live": True, "hanging": []}
            hub.send_signal(signal.SIGTERM)
            _, errors = hub.communicate(timeout=30)
        finally:
            hub.kill()
            hub.wait()
    assert hub.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("role", "web", "broker_parts"), [("ingest", False, True), ("web", True, None), ("sync", False, True)]
)
def test_each_role_runs_its_own_parts_only(
    tmp_path: Path, broker: BrokerSettings, role: str, web: bool, broker_parts: bool | None
) -> None:
    hub = build(read_settings(write(tmp_path, broker.port)), role)
    hub.start()
    try:
        assert (hub.web is not None) is web
        wait_until(lambda: hub.connected() is broker_parts, "the broker is not reached")
        assert hub.beats.overdue() == []
    finally:
        hub.stop()


def test_pages_on_another_address_than_this_machine_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web.host: .*sign_in"):
        read_settings(write(tmp_path, 1, host="0.0.0.0"))


def test_an_amqp_ingest_without_its_address_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="amqp_url"):
        read_settings(write(tmp_path, 1, extra='ingest = "amqp-quorum"'))


def test_a_port_that_is_taken_stops_what_was_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = write(tmp_path, 1)
        config.write_text(config.read_text().replace("port = 0", f"port = {taken.getsockname()[1]}"))
        hub = build(read_settings(config), "web")
        with pytest.raises(FatalError, match="another port"):
            hub.start()
        hub.store.close()


@pytest.mark.parametrize(
    ("sections", "is_mailed"),
    [("", False), (MAIL, False), (SIGN_IN, False), (SIGN_IN + MAIL, True)],
    ids=["neither", "mail", "sign_in", "both"],
)
def test_links_are_mailed_where_there_is_a_mail_server_and_a_public_address(
    tmp_path: Path, sections: str, is_mailed: bool
) -> None:
    config = write(tmp_path, 1)
    config.write_text(config.read_text() + sections)
    hub = build(read_settings(config), "web")
    hub.start()
    try:
        assert hub.web is not None
        page = httpx.get(f"{hub.web.address}/sign-in/forgot").text
        assert ('action="/sign-in/forgot"' in page) is is_mailed
        assert ("tapgate accounts link" in page) is not is_mailed
    finally:
        hub.stop()


@pytest.mark.mosquitto
def test_a_certificate_that_is_missing_costs_the_pages_and_nothing_else(tmp_path: Path, broker: BrokerSettings) -> None:
    config = write(tmp_path, broker.port)
    config.write_text(config.read_text().replace("port = 0", 'port = 0\ncertificate_file = "c"\nkey_file = "k"'))
    hub = build(read_settings(config))
    hub.start()
    try:
        assert hub.web is None
        wait_until(lambda: hub.connected() is True, "the broker is not reached")
        assert "no pages: The web pages cannot use the certificate" in hub.status()
    finally:
        hub.stop()
