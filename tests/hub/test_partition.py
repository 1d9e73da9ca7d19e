"""The cable between gateway and broker is cut: each stands in a network namespace of its own, a veth pair joins them.

The gateway's keepalive is 2 s and its patience before `offline` 6 s, so that a cut shows within the time of a test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.access.event import decode_event
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from tests.brokers import needs_mosquitto
from tests.edge.gateway_process import GatewayProcess
from tests.hub.samples import MOSQUITTO, SITE, wait_until

IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
BROKER_ADDRESS, GATEWAY_ADDRESS, PORT = "10.213.7.1", "10.213.7.2", 1883
KEEPALIVE_SECONDS, OFFLINE_AFTER_SECONDS = 2, 6
SHORT_CUT_SECONDS, LONG_CUT_SECONDS = 4.0, 16.0

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto, pytest.mark.timeout(150)]


def ip(*words: str) -> None:
    assert IP is not None
    subprocess.run([IP, *words], check=True, capture_output=True, timeout=10)


class Cable:
    """Two network namespaces and the veth pair between them; the broker's end is the one that is pulled."""

    def __init__(self) -> None:
        self.broker, self.gateway = (f"tg{os.getpid()}{side}" for side in "bg")

    def lay(self) -> None:
        ip("netns", "add", self.broker)
        ip("netns", "add", self.gateway)
        ip("link", "add", "tap0", "netns", self.broker, "type", "veth", "peer", "name", "tap0", "netns", self.gateway)
        for name, address in ((self.broker, BROKER_ADDRESS), (self.gateway, GATEWAY_ADDRESS)):
            ip("-n", name, "address", "add", f"{address}/30", "dev", "tap0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "tap0", "up")

    def remove(self) -> None:
        for name in (self.broker, self.gateway):
            subprocess.run([str(IP), "netns", "delete", name], check=False, capture_output=True, timeout=10)

    def cut(self) -> None:
        ip("-n", self.broker, "link", "set", "tap0", "down")

    def heal(self) -> None:
        ip("-n", self.broker, "link", "set", "tap0", "up")

    def inside(self, name: str) -> tuple[str, ...]:
        return (str(IP), "netns", "exec", name)


@pytest.fixture
def cable() -> Iterator[Cable]:
    needs_mosquitto()
    if IP is None:
        pytest.skip("ip of iproute2 is not installed")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    pair = Cable()
    try:
        try:
            pair.lay()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this kernel gives no network namespace with a veth pair ({error.stderr.decode().strip()})")
        yield pair
    finally:
        pair.remove()


@pytest.fixture
def hub(cable: Cable, tmp_path: Path) -> Iterator[Path]:
    """Broker and ingest worker on the far side of the cable; returns the hub's state folder."""
    conf, toml = tmp_path / "mosquitto.conf", tmp_path / "hub.toml"
    conf.write_text(
        f"listener {PORT} {BROKER_ADDRESS}\nlistener {PORT} 127.0.0.1\nallow_anonymous true\npersistence false\n"
    )
    (tmp_path / "site.key").write_text(bytes(range(32)).hex())
    toml.write_text(
        f'[hub]\nstate_dir = "state"\nbroker = "mqtt://127.0.0.1:{PORT}"\n[[site]]\nid = "{SITE}"\n'
        'site_key_file = "site.key"\ntrust_unenrolled = true\n'
    )
    front = cable.inside(cable.broker)
    worker = [sys.executable, "-m", "gateway", "hub", "--config", str(toml), "--role", "ingest"]
    commands = ([MOSQUITTO, "-c", str(conf)], worker)
    # `ip netns exec` becomes the command itself, so these are the pids of the real processes.
    processes = [
        subprocess.Popen([*front, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        wait_until((tmp_path / "state" / "hub.db").exists, "the hub does not start", 30)
        yield tmp_path / "state"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _gateway(cable: Cable, hub: Path, folder: Path, relay: str) -> GatewayProcess:
    process = GatewayProcess(
        folder / "journal",
        PORT,
        front=cable.inside(cable.gateway),
        host=BROKER_ADDRESS,
        pause=0.01,
        keepalive=KEEPALIVE_SECONDS,
        offline_after=OFFLINE_AFTER_SECONDS,
        relay=relay,
    )
    process.start()
    try:
        wait_until(lambda: process.link == "online" and len(_rows(hub)) > 100, "nothing arrives at the hub", 30)
    except BaseException:
        process.kill()
        raise
    return process


def _cut(cable: Cable, gateway: GatewayProcess, seconds: float) -> list[tuple[float, str]]:
    """Cut the cable while taps go on; returns what the relay said meanwhile, in seconds since the cut."""
    said, before, started = len(gateway.links), len(gateway.kept), time.monotonic()
    cable.cut()
    time.sleep(seconds)
    cable.heal()
    assert len(gateway.kept) > before + 50, "the taps did not go on"
    wait_until(lambda: gateway.link == "online", "the gateway does not come back", 60)
    return [(at - started, state) for at, state in gateway.links[said:]]


def _rows(state: Path) -> dict[int, bytes]:
    store = open_store("sqlite:///hub.db", state)
    event = tables.event
    with store.read() as connection:
        rows = connection.execute(select(event.c.seq, event.c.raw).join(tables.gateway)).all()
    store.close()
    assert len({seq for seq, _ in rows}) == len(rows), "an event is there twice"
    return {seq: bytes(raw) for seq, raw in rows}


def _lost(gateway: GatewayProcess, state: Path, after: int = 0) -> int:
    rows = _rows(state)
    return sum(
        seq not in rows or decode_event(rows[seq]).person != f"p_{number:016x}"
        for seq, number in gateway.kept.items()
        if seq > after
    )


def test_the_harness_catches_a_relay_that_takes_the_sockets_word(cable: Cable, hub: Path, tmp_path: Path) -> None:
    gateway = _gateway(cable, hub, tmp_path, "twin")
    # What this relay sent before the hub listened is lost as well, but it is not the cable's doing.
    settled = max(_rows(hub))
    try:
        _cut(cable, gateway, LONG_CUT_SECONDS)
    finally:
        gateway.finish(60)
    assert gateway.done is not None
    wait_until(lambda: gateway.done in _rows(hub), "the end did not arrive")
    assert _lost(gateway, hub, settled) > 0


def test_a_cut_cable_loses_nothing_doubles_nothing_and_offline_waits_its_time(
    cable: Cable, hub: Path, tmp_path: Path
) -> None:
    gateway = _gateway(cable, hub, tmp_path, "real")
    try:
        short = _cut(cable, gateway, SHORT_CUT_SECONDS)
        long = _cut(cable, gateway, LONG_CUT_SECONDS)
    finally:
        gateway.finish(60)
    assert gateway.done is not None, "the hub does not have everything"
    assert _lost(gateway, hub) == 0
    rows = _rows(hub)
    persons = {decode_event(raw).person for raw in rows.values()}
    assert len(persons) == len(rows) == gateway.done
    assert [state for at, state in short if state == "offline" and at < SHORT_CUT_SECONDS] == []
    states = [state for _, state in long]
    assert states[:3] == ["reconnecting", "offline", "online"]
    assert long[1][0] - long[0][0] == pytest.approx(OFFLINE_AFTER_SECONDS, abs=1.0)
