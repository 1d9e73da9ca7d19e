from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.access.people import CardEntry, CardState
from gateway.edge import roster_sync
from gateway.edge.reporter import Reporter
from gateway.edge.roster_sync import RosterSync
from gateway.link.client import Arrived
from gateway.link.topics import roster_chunk, roster_delta, roster_manifest
from gateway.roster.file import RosterContent, build, rule_for_everyone
from gateway.roster.publication import Publication, publish
from gateway.roster.signing import Signer, Trust
from gateway.roster.store import RosterStore

SITE_KEY = bytes(range(32))
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
SITE = "st-marys"


def _message(topic: str, payload: bytes) -> Arrived:
    return Arrived(topic, payload, retained=True, qos=1, mid=1, generation=1)


class _Broker:
    """Retained topics, delivered at once to whoever asks for them."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.handlers: dict[str, Callable[[Arrived], None]] = {}
        self.reports: list[dict[str, object]] = []
        self.asked: list[str] = []

    def on(self, topic: str, handler: Callable[[Arrived], None]) -> None:
        self.handlers[topic] = handler
        self.asked.append(topic)
        if topic in self.retained:
            handler(_message(topic, self.retained[topic]))

    def off(self, topic: str) -> None:
        del self.handlers[topic]

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert retain
        assert topic == "reported"
        self.reports.append(json.loads(payload))

    def put(self, topic: str, payload: bytes) -> None:
        self.retained[topic] = payload
        if topic in self.handlers:
            self.handlers[topic](_message(topic, payload))

    def offer(self, publication: Publication) -> None:
        for name, payload in publication.chunks.items():
            self.put(roster_chunk(SITE, name), payload)
        for (old, new), payload in publication.deltas.items():
            self.put(roster_delta(SITE, old, new), payload)
        self.put(roster_manifest(SITE), publication.manifest)


def _file(version: int, cards: int, previous: bytes | None = None) -> bytes:
    entry = CardEntry("p_00000000000000a1", CardState.ACTIVE, frozenset({"pupils"}), None, None, True)
    content = RosterContent(
        SITE, version, {n.to_bytes(16, "big"): entry for n in range(cards)}, {"lane-1": rule_for_everyone()}
    )
    return build(content, SIGNER, SITE_KEY, previous)


@pytest.fixture
def broker() -> _Broker:
    return _Broker()


@pytest.fixture
def store(tmp_path: Path) -> RosterStore:
    store = RosterStore(tmp_path, Trust(SITE_KEY), SITE)
    store.load()
    return store


@pytest.fixture
def sync(store: RosterStore, broker: _Broker) -> RosterSync:
    sync = RosterSync(store, broker, Reporter(broker, "reported", time.monotonic))
    sync.start()
    return sync


def _version(store: RosterStore) -> int | None:
    return store.current.version if store.current else None


def test_a_new_gateway_fetches_the_chunks_and_reports(sync: RosterSync, store: RosterStore, broker: _Broker) -> None:
    broker.offer(publish(_file(5, 4000), [], SIGNER, SITE_KEY))
    assert _version(store) == 5
    assert broker.reports[-1] == {"roster": 5}
    assert set(broker.handlers) == {roster_manifest(SITE)}


def test_a_gateway_with_the_generation_before_takes_the_delta_only(
    sync: RosterSync, store: RosterStore, broker: _Broker
) -> None:
    first = _file(5, 4000)
    store.install(first)
    broker.offer(publish(_file(6, 4001, first), [first], SIGNER, SITE_KEY))
    assert _version(store) == 6
    assert not any("chunk" in topic for topic in broker.asked)


def test_a_delta_that_is_damaged_is_followed_by_the_whole_file(
    sync: RosterSync, store: RosterStore, broker: _Broker
) -> None:
    first = _file(5, 4000)
    store.install(first)
    publication = publish(_file(6, 4001, first), [first], SIGNER, SITE_KEY)
    publication.deltas[5, 6] = publication.deltas[5, 6][:-20]
    broker.offer(publication)
    assert _version(store) == 6


def test_an_unsigned_manifest_leaves_the_roster_in_force(sync: RosterSync, store: RosterStore, broker: _Broker) -> None:
    store.install(_file(5, 10))
    broker.offer(publish(_file(6, 10), [], SIGNER, bytes(32)))
    assert _version(store) == 5
    assert "not endorsed" in str(broker.reports[-1]["error"])


def test_an_older_roster_is_not_taken_back(sync: RosterSync, store: RosterStore, broker: _Broker) -> None:
    store.install(_file(5, 10))
    broker.offer(publish(_file(4, 10), [], SIGNER, SITE_KEY))
    assert _version(store) == 5
    assert "stays" in str(broker.reports[-1]["error"])


def test_a_wrong_chunk_is_refused_and_the_right_one_still_completes_the_roster(
    sync: RosterSync, store: RosterStore, broker: _Broker
) -> None:
    publication = publish(_file(5, 4000), [], SIGNER, SITE_KEY)
    name = next(iter(publication.chunks))
    right = publication.chunks[name]
    publication.chunks[name] = right[: len(right) // 2]
    broker.offer(publication)
    assert _version(store) is None
    broker.put(roster_chunk(SITE, name), right)
    assert _version(store) == 5


def test_a_fetch_that_stalls_is_begun_anew(
    sync: RosterSync, store: RosterStore, broker: _Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = publish(_file(5, 10), [], SIGNER, SITE_KEY)
    broker.put(roster_manifest(SITE), publication.manifest)
    broker.retained |= {roster_chunk(SITE, name): payload for name, payload in publication.chunks.items()}
    sync.tick()
    assert _version(store) is None
    later = roster_sync.time.monotonic() + roster_sync.FETCH_SECONDS + 1
    monkeypatch.setattr(roster_sync.time, "monotonic", lambda: later)
    sync.tick()
    assert _version(store) == 5


def test_what_is_missing_is_asked_for_less_and_less_often(
    sync: RosterSync, store: RosterStore, broker: _Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = publish(_file(5, 4000), [], SIGNER, SITE_KEY)
    name = next(iter(publication.chunks))
    right = publication.chunks.pop(name)
    broker.offer(publication)
    begun = time.monotonic()
    for second in range(3600):
        monkeypatch.setattr(roster_sync.time, "monotonic", lambda second=second: begun + second)
        sync.tick()
    asked = [report["missing"] for report in broker.reports if "missing" in report]
    assert asked
    assert {tuple(names) for names in asked if isinstance(names, list)} == {(name,)}
    assert len(asked) < 12
    broker.put(roster_chunk(SITE, name), right)
    assert _version(store) == 5
    assert "missing" not in broker.reports[-1]


def test_a_roster_that_the_disk_refuses_is_in_force_from_memory(
    sync: RosterSync, store: RosterStore, broker: _Broker, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "roster", ignore_errors=True)
    store._directory = tmp_path / "a file" / "roster"
    (tmp_path / "a file").write_text("in the way")
    broker.offer(publish(_file(5, 40), [], SIGNER, SITE_KEY))
    assert _version(store) == 5
    assert "from memory only" in str(broker.reports[-1]["error"])
