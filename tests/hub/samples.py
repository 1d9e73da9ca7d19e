"""Events as gateways send them, a site, and a real broker; shared by the tests of the hub."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gateway.access.event import FIRST_PREV, CardRef, Event, encode_event, join_events
from gateway.config import BrokerSettings
from gateway.hub.facts.base import Projector
from gateway.hub.facts.runner import Facts
from gateway.hub.ingest.parse import Incoming
from gateway.hub.store import tables
from gateway.hub.store.engine import Store

SITE = "st-marys"
GATEWAY = "gw-canteen"
EPOCH = "5f1c9a02"
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def tap(seq: int, /, *, gateway: str = GATEWAY, epoch: str = EPOCH, key: str | None = None, **fields: object) -> bytes:
    """Encode one tap; `fields` replace what it says."""
    card = CardRef(key, "E5F6", "ntag") if key else None
    event = Event(
        gw=gateway,
        epoch=epoch,
        seq=seq,
        boot=1,
        at=f"2026-11-22T08:{seq // 60 % 60:02d}:{seq % 60:02d}.000Z",
        clock="ntp",
        up=1.5,
        kind="tap",
        point="lane-1",
        reader="lane-1",
        card=card,
        person=None,
        decision="granted" if key else "denied",
        reason="ok" if key else "card_unknown",
        roster=4,
        took_us=180,
        prev=FIRST_PREV,
    )
    for name, value in fields.items():
        setattr(event, name, value)
    return encode_event(event)


def message(*events: bytes, last: str = "taps", site: str = SITE, gateway: str = GATEWAY) -> Incoming:
    """Make a message of events as a gateway sends it."""
    return Incoming(f"tapgate/v1/{site}/{gateway}/{last}", join_events(list(events)), 1_795_334_400_000)


def add_site(store: Store, key_file: Path, site: str = SITE) -> None:
    with store.write() as connection:
        row = {"id": site, "name": "St Mary's", "timezone": "Europe/London", "key_file": str(key_file)}
        connection.execute(tables.site.insert().values(**row, edited=False, trust_unenrolled=True))


def follow(store: Store, projectors: Sequence[Projector] | None = None) -> None:
    """Let the projectors take everything that is held, within a bound."""
    facts = Facts(store, projectors=projectors)
    for _ in range(1_000):
        if not facts.turn():
            return
    raise AssertionError("the projectors do not come to an end")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mosquitto(folder: Path, port: int = 0) -> Iterator[tuple[BrokerSettings, subprocess.Popen[bytes]]]:
    """Run a real broker without persistence on loopback; it may be killed by the test."""
    port = port or free_port()
    configuration = folder / f"mosquitto-{port}.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "max_inflight_messages 1000\nmax_queued_messages 0\n"
    )
    process = subprocess.Popen(
        [MOSQUITTO, "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _listens(port), "the broker does not listen")
        yield BrokerSettings("127.0.0.1", port, tls=False), process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], object], complaint: str, seconds: float = 20) -> None:
    """Wait for something with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.01)
