"""Events that one ingest worker commits per second over a real broker, against a worker that commits each message.

Every event is committed before its message is acknowledged, on SQLite with synchronous FULL. The events wait at the
broker while the worker's first commit is held back, so that the worker is measured and not the publisher; a last part
sends live taps while a backlog drains and times them to their watermark.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.access.event import CardRef, Event, encode_event, join_events
from gateway.config import BrokerSettings
from gateway.errors import FatalError
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.mqtt_share import MqttShare
from gateway.hub.ingest.seals import Sealer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, open_store
from gateway.link.client import Arrived, Connected, Link, Published
from gateway.link.embedded import EmbeddedBroker
from gateway.link.messages import Watermark, decode
from gateway.link.topics import GatewayTopics
from gateway.roster.signing import Signer

_SITE = "bench"
_ROUNDS = 3
_SINGLE = 10_000
_PEER_SINGLE = 2_000
_BACKLOG = 100_000
_PER_MESSAGE = 50
_PEOPLE = 2_000
_DRAIN = 400_000
_LIVE_TAPS = 300
_LIVE_TAPS_LEAST = 60
_LIVE_PAUSE_SECONDS = 0.01
_WAIT_SECONDS = 120.0
_WINDOW = 20


class OneByOne(Committer):
    """The peer: the same work, one transaction a message, as a plain subscriber writes it."""

    def commit(self, batch: Any) -> Committed:
        done = Committed()
        for incoming in batch:
            done.add(super().commit([incoming]))
        return done


class Held(Committer):
    """Commits nothing before it is released; the broker keeps what the worker's receive maximum does not let out."""

    def __init__(self, store: Store, inner: Committer) -> None:
        super().__init__(store)
        self._inner, self.released = inner, threading.Event()

    def commit(self, batch: Any) -> Committed:
        self.released.wait(_WAIT_SECONDS)
        return self._inner.commit(batch)


def run_bench() -> dict[str, Any]:
    """Measure ours and the peer in turns."""
    ours: dict[str, list[float]] = {"live events/s": [], "backlog events/s": []}
    peer: list[float] = []
    with tempfile.TemporaryDirectory() as name, mosquitto_or_embedded(Path(name)) as (broker, broker_name):
        for turn in range(_ROUNDS):
            folder = Path(name) / str(turn)
            folder.mkdir()
            ours["live events/s"].append(_drain(broker, folder, f"gw-live-{turn}", _SINGLE, 1, Committer))
            ours["backlog events/s"].append(
                _drain(broker, folder, f"gw-back-{turn}", _BACKLOG, _PER_MESSAGE, Committer)
            )
            peer.append(_drain(broker, folder, f"gw-peer-{turn}", _PEER_SINGLE, 1, OneByOne))
        latencies = _live_beside_backlog(broker, Path(name))
    best = {key: round(sorted(values)[len(values) // 2]) for key, values in ours.items()}
    peer_rate = sorted(peer)[len(peer) // 2]
    p50, p95 = latencies[len(latencies) // 2], latencies[len(latencies) * 95 // 100]
    return {
        "name": "ingest",
        "unit": "events committed before acknowledgement, a second",
        "ours": {
            **best,
            "live tap to watermark beside a backlog, p50 ms": round(p50 * 1000, 1),
            "live tap to watermark beside a backlog, p95 ms": round(p95 * 1000, 1),
            "broker": broker_name,
        },
        "peers": {"one commit a message": {"live events/s": round(peer_rate)}},
        "ratio": round(best["live events/s"] / peer_rate, 1),
    }


@contextlib.contextmanager
def mosquitto_or_embedded(folder: Path) -> Iterator[tuple[BrokerSettings, str]]:
    """Run mosquitto, or the embedded broker where there is none; returns its settings and its name."""
    program = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        with EmbeddedBroker() as embedded:
            yield embedded.settings, "embedded"
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    file = folder / "mosquitto.conf"
    limits = "max_inflight_messages 1000\nmax_queued_messages 0\n"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{limits}", encoding="ascii")
    process = subprocess.Popen([program, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield BrokerSettings("127.0.0.1", port, tls=False), "mosquitto"
    finally:
        process.kill()
        process.wait()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise FatalError("The broker for the bench does not start; look whether mosquitto runs here.")


def _store(folder: Path) -> Store:
    store = open_store("sqlite:///hub.db", folder)
    store.migrate()
    key_file = folder / "site.key"
    key_file.write_text(bytes(32).hex(), encoding="ascii")
    with store.write() as connection:
        row = {
            "id": _SITE,
            "name": "Bench",
            "timezone": "UTC",
            "key_file": str(key_file),
            "edited": False,
            "trust_unenrolled": True,
        }
        if connection.scalar(tables.site.select()) is None:
            connection.execute(tables.site.insert().values(row))
    return store


def _sealer(store: Store) -> Sealer:
    return Sealer(store, Signer(Ed25519PrivateKey.generate()))


def _drain(
    broker: BrokerSettings, folder: Path, gateway: str, count: int, per_message: int, committer: type[Committer]
) -> float:
    store = _store(folder)
    held = Held(store, committer(store))
    done = threading.Event()
    committed: list[tuple[float, int]] = []

    def note(result: Committed) -> None:
        committed.append((time.perf_counter(), result.fresh))
        if sum(fresh for _, fresh in committed) >= count:
            done.set()

    worker = MqttShare(broker, "bench", held, on_commit=note, seal=_sealer(store))
    worker.start()
    _until(lambda: worker.connected and worker.takes_share, "the worker to connect")
    _publish(broker, gateway, count, per_message, "backlog" if per_message > 1 else "taps")
    released_at = time.perf_counter()
    held.released.set()
    if not done.wait(_WAIT_SECONDS):
        raise FatalError(f"Only {sum(fresh for _, fresh in committed)} of {count} events were committed.")
    worker.stop()
    store.close()
    # The first batch only starts the clock: connecting is not the worker's rate.
    first_at, first = committed[0] if len(committed) > 1 else (released_at, 0)
    return (count - first) / max(committed[-1][0] - first_at, 1e-9)


def _publish(broker: BrokerSettings, gateway: str, count: int, per_message: int, last: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    publisher = spawn.Process(target=publish_all, args=(broker, gateway, count, per_message, last))
    publisher.start()
    publisher.join(_WAIT_SECONDS)


def publish_all(broker: BrokerSettings, gateway: str, count: int, per_message: int, last: str) -> None:
    """Publish events as a gateway does, a full window at a time; runs in a separate process."""
    sender = _Sender(broker, gateway)
    events = sample_events(gateway, count)
    topic = f"tapgate/v1/{_SITE}/{gateway}/{last}"
    for at in range(0, count, per_message):
        sender.send(topic, join_events(events[at : at + per_message]))
    sender.finish()


class _Sender:
    def __init__(self, broker: BrokerSettings, name: str) -> None:
        self.link = Link(broker, name, session_expiry_seconds=0)
        self.link.start()
        self._open: set[int] = set()
        _until(self._is_connected, "the publisher to connect")

    def _is_connected(self) -> bool:
        self._take(0.05)
        return self.link.connected

    def _take(self, seconds: float) -> Any:
        try:
            item = self.link.inbox.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(item, Published):
            self._open.discard(item.mid)
        return item

    def send(self, topic: str, payload: bytes) -> None:
        while len(self._open) >= _WINDOW:
            self._take(1.0)
        mid = self.link.publish(topic, payload)
        if mid is None:
            raise FatalError("The broker of the bench went away.")
        self._open.add(mid)

    def finish(self) -> None:
        while self._open:
            self._take(1.0)
        self.link.close()


def sample_events(gateway: str, count: int) -> list[bytes]:
    """Make events like those of a school day: known people, one point, real sizes."""
    draw = random.Random(gateway)
    people = [(draw.randbytes(16).hex(), f"p_{draw.randbytes(8).hex()}") for _ in range(_PEOPLE)]
    events = []
    for seq in range(1, count + 1):
        key, person = people[draw.randrange(_PEOPLE)]
        event = Event(
            gw=gateway,
            epoch="5f1c9a02",
            seq=seq,
            boot=17,
            at=f"2026-11-22T{8 + seq // 360_000:02d}:{seq // 6000 % 60:02d}:{seq // 100 % 60:02d}.{seq % 100:02d}0Z",
            clock="ntp",
            up=seq / 100,
            kind="tap",
            point="lane-1",
            reader="lane-1",
            card=CardRef(key, "E5F6", "mifare-classic-1k"),
            person=person,
            decision="granted",
            reason="ok",
            rule="everyone",
            roster=412,
            took_us=184,
            prev=draw.randbytes(16).hex(),
        )
        events.append(encode_event(event))
    return events


def _live_beside_backlog(broker: BrokerSettings, folder: Path) -> list[float]:
    store = _store(folder)
    topics = GatewayTopics(_SITE, "gw-live")
    link = Link(broker, "gw-live", session_expiry_seconds=0)
    link.start()
    while not isinstance(link.inbox.get(timeout=_WAIT_SECONDS), Connected):
        pass
    link.subscribe([topics.ack])
    drained = 0

    def note(result: Committed) -> None:
        nonlocal drained
        drained += result.fresh

    held = Held(store, Committer(store))
    worker = MqttShare(broker, "bench", held, on_commit=note, seal=_sealer(store))
    worker.start()
    _until(lambda: worker.connected and worker.takes_share, "the worker to connect")
    _publish(broker, "gw-drain", _DRAIN, _PER_MESSAGE, "backlog")
    held.released.set()
    _until(lambda: drained > 0, "the backlog to drain")
    latencies: list[float] = []
    for raw in sample_events("gw-live", _LIVE_TAPS):
        if drained >= _DRAIN:
            break
        started = time.perf_counter()
        link.publish(topics.taps, join_events([raw]))
        _until_acknowledged(link, len(latencies) + 1)
        latencies.append(time.perf_counter() - started)
        time.sleep(_LIVE_PAUSE_SECONDS)
    link.close()
    worker.stop()
    store.close()
    if len(latencies) < _LIVE_TAPS_LEAST:
        raise FatalError(f"The backlog was drained after {len(latencies)} live taps already; the bench says nothing.")
    return sorted(latencies)


def _until_acknowledged(link: Link, seq: int) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        item = link.inbox.get(timeout=_WAIT_SECONDS)
        if isinstance(item, Arrived) and decode(item.payload, Watermark).upto >= seq:
            return
    raise FatalError(f"Event {seq} was not acknowledged.")


def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise FatalError(f"Waited {_WAIT_SECONDS:.0f} s for {what}.")
        time.sleep(0.005)
