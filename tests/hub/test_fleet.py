from __future__ import annotations

import hashlib
import queue
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select, update

from gateway.access.people import EVERY_POINT
from gateway.access.rules import Moment, Presentation, Reason, decide
from gateway.cards.identity import CardNumber, card_key
from gateway.cards.uid import Uid
from gateway.config import BrokerSettings
from gateway.hub.directory.cards import link_card, set_card_state
from gateway.hub.directory.revision import raise_revision
from gateway.hub.fleet import service as service_module
from gateway.hub.fleet.chain import ChainFault, list_faults, verify_all
from gateway.hub.fleet.gateways import list_gateways
from gateway.hub.fleet.rosters import refresh
from gateway.hub.fleet.service import FleetService
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.link.client import Arrived, Connected, Link, Will
from gateway.link.messages import (
    WATERMARK_PURPOSE,
    WELCOME_PURPOSE,
    Command,
    GatewayState,
    Reply,
    Signed,
    Watermark,
    Welcome,
    decode,
    encode,
    watermark_body,
)
from gateway.link.topics import HUB_STATE, GatewayTopics, roster_chunk, roster_delta, roster_manifest
from gateway.roster.publication import apply_delta, join_chunks, open_chunk, read_manifest
from gateway.roster.signing import Signer, Trust
from gateway.roster.snapshot import Snapshot
from tests.hub.samples import EPOCH, GATEWAY, SITE, message, mosquitto, tap, wait_until

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
UID = Uid(bytes.fromhex("04A1B2C3D4E5F6"))
NOON = datetime(2026, 11, 23, 12, 0)  # noqa: DTZ001  # the site's local time


@pytest.fixture
def key(site_key: bytes) -> bytes:
    return card_key(site_key, CardNumber.of_uid(UID))


@pytest.fixture
def card(store: Store, key: bytes) -> int:
    """One active pupil with one card and a rule for everybody; returns the card's number."""
    with store.write() as connection:
        row = {"ref": "p_" + "1" * 16, "site": SITE, "person_key": "1", "role": "student", "given_name": "Ann"}
        rest = {"family_name": "Smith", "groups": ["7B"], "state": "active", "created_ms": 0, "changed_ms": 0}
        connection.execute(insert(tables.person).values(**row, **rest))
        rule = {"site": SITE, "point": EVERY_POINT, "place": 0, "name": "everyone", "groups": []}
        connection.execute(insert(tables.access_rule).values(**rule, schedule="always", windows=[], on_holidays=True))
        audit = Audit("person:office", SITE, now_ms())
        number = link_card(connection, row["ref"], key.hex(), UID.tail, "uid", audit)
        audit.write(connection)
    return number


def set_state(store: Store, card: int, state: str) -> None:
    with store.write() as connection:
        audit = Audit("person:office", SITE, now_ms())
        set_card_state(connection, card, state, audit)  # type: ignore[arg-type]
        audit.write(connection)


def reason_for(raw: bytes, site_key: bytes, key: bytes) -> Reason:
    snapshot = Snapshot(raw, Trust(site_key), SITE)
    return decide(Presentation((key,)), snapshot, "front-door", Moment(NOON)).reason


def test_a_generation_says_what_the_directory_says_and_nothing_new_makes_none(
    store: Store, key_file: Path, site_key: bytes, card: int, key: bytes
) -> None:
    first = refresh(store, SITE, SIGNER, key_file)
    assert first is not None
    manifest = read_manifest(first.publication.manifest, Trust(site_key), SITE)
    chunks = {name: open_chunk(payload, name) for name, payload in first.publication.chunks.items()}
    raw = join_chunks(manifest, chunks)
    assert reason_for(raw, site_key, key) is Reason.OK
    assert refresh(store, SITE, SIGNER, key_file) is None
    assert refresh(store, SITE, SIGNER, key_file, resend=True) is not None
    for state in ("lost", "blocked", "replaced", "prelinked"):
        set_state(store, card, state)
        following = refresh(store, SITE, SIGNER, key_file)
        assert following is not None
        versions = (following.version - 1, following.version)
        raw = apply_delta(raw, following.publication.deltas[versions])
        assert reason_for(raw, site_key, key).value == f"card_{state}"


def test_a_change_sends_only_the_chunks_that_changed_and_a_reconnect_sends_all(
    store: Store, key_file: Path, site_key: bytes, card: int, key: bytes
) -> None:
    with store.write() as connection:
        row = {"site": SITE, "tail": "0000", "projection": "uid", "state": "active", "state_by": "x", "origin": "x"}
        # Behind this card in key order, so that what changes stands in the first chunk.
        keys = (f"{0xFF000000 + number:08x}{'0' * 24}" for number in range(8_000))
        rows = [{**row, "key": wanted, "created_ms": 0, "changed_ms": 0} for wanted in keys]
        connection.execute(insert(tables.card), rows)
    first = refresh(store, SITE, SIGNER, key_file)
    set_state(store, card, "lost")
    second = refresh(store, SITE, SIGNER, key_file)
    again = refresh(store, SITE, SIGNER, key_file, resend=True)
    assert first is not None
    assert second is not None
    assert again is not None
    manifest = read_manifest(second.publication.manifest, Trust(site_key), SITE)
    # The first holds version and card, the last the seal.
    assert set(second.publication.chunks) == {manifest.chunks[0], manifest.chunks[-1]}
    assert set(again.publication.chunks) == set(manifest.chunks)
    assert len(manifest.chunks) > 3
    at_broker = {**first.publication.chunks, **second.publication.chunks}
    assert not second.stale_chunks & set(manifest.chunks)
    raw = join_chunks(manifest, {name: open_chunk(at_broker[name], name) for name in manifest.chunks})
    assert reason_for(raw, site_key, key) is Reason.CARD_LOST


def test_somebody_who_left_is_denied_as_inactive_and_an_unknown_card_as_unknown(
    store: Store, key_file: Path, site_key: bytes, card: int, key: bytes
) -> None:
    with store.write() as connection:
        connection.execute(update(tables.person).values(state="inactive"))
        raise_revision(connection, SITE)
    published = refresh(store, SITE, SIGNER, key_file)
    assert published is not None
    manifest = read_manifest(published.publication.manifest, Trust(site_key), SITE)
    raw = join_chunks(manifest, {name: open_chunk(body, name) for name, body in published.publication.chunks.items()})
    assert reason_for(raw, site_key, key) is Reason.PERSON_INACTIVE
    assert reason_for(raw, site_key, bytes(16)) is Reason.CARD_UNKNOWN


def test_a_hub_restored_from_a_backup_goes_above_the_number_its_gateways_have(
    store: Store, key_file: Path, card: int
) -> None:
    refresh(store, SITE, SIGNER, key_file)
    with store.write() as connection:
        # What a gateway says by itself moves no count: it would end every revocation (security.md, row 2).
        connection.execute(insert(tables.gateway).values(site=SITE, name=GATEWAY, roster=1 << 50))
    assert refresh(store, SITE, SIGNER, key_file) is None
    again = refresh(store, SITE, SIGNER, key_file, floor=412)
    assert again is not None
    assert again.version == 413


class Listener:
    """A gateway's connection that remembers what came, by topic."""

    def __init__(self, broker: BrokerSettings, topics: list[str], will: Will | None = None) -> None:
        self.link = Link(broker, f"listener-{id(self)}", will=will, session_expiry_seconds=0)
        self.heard: dict[str, list[bytes]] = {}
        self._topics = topics
        self.link.start()
        wait_until(self._turn_connected, "no connection")

    def _turn_connected(self) -> bool:
        self.turn()
        return self.link.connected

    def turn(self) -> None:
        try:
            while True:
                item = self.link.inbox.get_nowait()
                if isinstance(item, Connected):
                    self.link.subscribe(self._topics)
                elif isinstance(item, Arrived):
                    self.heard.setdefault(item.topic, []).append(item.payload)
        except queue.Empty:
            return

    def last(self, topic: str) -> bytes | None:
        self.turn()
        return self.heard.get(topic, [None])[-1]  # type: ignore[list-item]

    def wait(self, topic: str, fits: Callable[[bytes], bool]) -> bytes:
        wait_until(lambda: (payload := self.last(topic)) is not None and fits(payload), f"nothing on {topic}")
        found = self.last(topic)
        assert found is not None
        return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerSettings]:
    with mosquitto(tmp_path) as (settings, _):
        yield settings


@pytest.fixture
def service(broker: BrokerSettings, store: Store) -> Iterator[FleetService]:
    running = FleetService(broker, "hub-0", store, SIGNER)
    running.start()
    yield running
    running.stop()


@pytest.mark.mosquitto
def test_the_hub_says_ready_publishes_the_roster_and_says_lost_when_it_goes(
    broker: BrokerSettings, store: Store, site_key: bytes, card: int, key: bytes
) -> None:
    manifest_topic = roster_manifest(SITE)
    listener = Listener(broker, [HUB_STATE, manifest_topic])
    service = FleetService(broker, "hub-0", store, SIGNER)
    service.start()
    listener.wait(HUB_STATE, lambda payload: b"ready" in payload)
    payload = listener.wait(manifest_topic, lambda body: len(body) > 2)
    manifest = read_manifest(payload, Trust(site_key), SITE)
    chunk = Listener(broker, [roster_chunk(SITE, name) for name in manifest.chunks])
    raw = join_chunks(
        manifest,
        {name: open_chunk(chunk.wait(roster_chunk(SITE, name), bool), name) for name in manifest.chunks},
    )
    assert hashlib.sha256(raw).hexdigest() == manifest.sha256
    assert reason_for(raw, site_key, key) is Reason.OK
    service.stop()
    listener.wait(HUB_STATE, lambda body: b"lost" in body)


@pytest.mark.mosquitto
def test_a_birth_is_answered_with_the_watermark_and_an_old_will_is_ignored(
    broker: BrokerSettings, store: Store, service: FleetService, site_key: bytes
) -> None:
    Committer(store).commit([message(tap(1), tap(2), tap(4))])
    topics = GatewayTopics(SITE, GATEWAY)
    listener = Listener(broker, [topics.ack])
    birth = GatewayState("ready", boot=5, epoch=EPOCH, head=9, acked=1, software="0.1", roster=3)
    wait_until(lambda: service.connected, "the fleet service does not connect")
    time_limit = time.monotonic() + 10
    while topics.ack not in listener.heard and time.monotonic() < time_limit:
        listener.link.publish(topics.state, encode(birth), retain=True)
        listener.turn()
        time.sleep(0.05)
    answer = decode(listener.last(topics.ack) or b"", Watermark)
    assert (answer.upto, answer.have) == (2, [(4, 4)])
    body = watermark_body(SITE, GATEWAY, answer)
    Trust(site_key, SIGNER.public_key.hex()).check_statement(WATERMARK_PURPOSE, body, answer.seal)
    listener.link.publish(topics.state, encode(GatewayState("lost", boot=4)), retain=True)
    listener.link.publish(f"tapgate/v1/{SITE}/gw-gate/state", b"not a state")

    def quarantined() -> bool:
        with store.read() as connection:
            return connection.scalar(select(tables.quarantine.c.topic)) is not None

    wait_until(quarantined, "the bad state was not quarantined")
    with store.read() as connection:
        (view, *_) = list_gateways(connection)
    assert (view.state, view.boot, view.waiting, view.roster) == ("ready", 5, 7, 3)


@pytest.mark.mosquitto
def test_a_revoked_card_reaches_a_connected_gateway_within_a_second(
    broker: BrokerSettings, store: Store, site_key: bytes, card: int, key: bytes, service: FleetService
) -> None:
    topic = roster_manifest(SITE)
    listener = Listener(broker, [topic])
    took = []
    for turn in range(8):
        version = read_manifest(listener.wait(topic, bool), Trust(site_key), SITE).version
        started = time.monotonic()
        set_state(store, card, "blocked" if turn % 2 == 0 else "active")
        listener.wait(topic, lambda body, old=version: read_manifest(body, Trust(site_key), SITE).version > old)  # type: ignore[misc]
        took.append(time.monotonic() - started)
    assert sorted(took)[-2] < 1.0
    manifest = read_manifest(listener.wait(topic, bool), Trust(site_key), SITE)
    pair = manifest.deltas[-1]
    delta = Listener(broker, [roster_delta(SITE, *pair)])
    assert delta.wait(roster_delta(SITE, *pair), bool)


@pytest.mark.mosquitto
def test_only_one_of_two_hubs_publishes(broker: BrokerSettings, store: Store, service: FleetService) -> None:
    wait_until(lambda: service.connected, "the first does not connect")
    second = FleetService(broker, "hub-1", store, SIGNER)
    second.start()
    assert not second.connected
    service.stop()
    wait_until(lambda: second.connected, "the second does not take over")
    second.stop()


@pytest.mark.mosquitto
def test_a_hub_that_was_restored_asks_for_what_it_lost_and_says_what_nobody_has(
    broker: BrokerSettings, store: Store, service: FleetService
) -> None:
    Committer(store).commit([message(tap(1), tap(2))])
    topics = GatewayTopics(SITE, GATEWAY)
    gateway = Listener(broker, [topics.command])
    birth = encode(GatewayState("ready", boot=5, epoch=EPOCH, head=9, acked=7))
    wait_until(lambda: service.connected, "the fleet service does not connect")

    def asked() -> bool:
        gateway.link.publish(topics.state, birth, retain=True)
        gateway.turn()
        return any(b"replay" in body for body in gateway.heard.get(topics.command, []))

    wait_until(asked, "the gateway is not asked")
    commands = [decode(body, Command) for body in gateway.heard[topics.command]]
    assert {"from": 3, "to": 7, "epoch": EPOCH} in [command.args for command in commands if command.name == "replay"]
    answer = encode(Reply("replay", 0, done=True, result={"from": 6, "to": 9}))
    gateway.link.publish(topics.reply, answer, correlation=f"{EPOCH}:2".encode())
    Committer(store).commit([message(*(tap(seq) for seq in range(6, 10)))])

    def freed() -> bool:
        with store.read() as connection:
            return connection.scalar(select(tables.mark.c.upto)) == 9

    wait_until(freed, "the mark is not freed")
    verify_all(store)
    with store.read() as connection:
        assert [fault for _, _, fault in list_faults(connection) if fault.what == "missing"] == [
            ChainFault("missing", 3, 5)
        ]


@pytest.mark.mosquitto
def test_poison_is_set_aside_with_its_bytes_and_the_fleet_goes_on(
    broker: BrokerSettings, store: Store, service: FleetService, card: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = GatewayTopics(SITE, GATEWAY)
    gateway = Listener(broker, [topics.ack])
    wait_until(lambda: service.connected, "the fleet service does not connect")
    bad = [
        b'{"state":"ready","boot":18446744073709551615}',
        b'{"state":"ready","boot":1,"roster":9223372036854775807}',
        b'{"state":"ready","boot":1,"head":-1}',
        b'{"state":"ready","boot":1,"epoch":"' + b"x" * 100 + b'"}',
        b"\xff" * 100,
    ]
    note = service_module.note_state

    def faulty(connection: object, site: str, name: str, state: GatewayState, at_ms: int) -> int | None:
        if state.software == "poison":
            raise ZeroDivisionError
        return note(connection, site, name, state, at_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(service_module, "note_state", faulty)
    bad.append(encode(GatewayState("ready", 1, EPOCH, software="poison")))

    def aside() -> bool:
        for body in bad:
            gateway.link.publish(topics.state, body)
        with store.read() as connection:
            kept = {bytes(body) for body in connection.scalars(select(tables.quarantine.c.payload))}
        time.sleep(0.05)
        return set(bad) <= kept

    wait_until(aside, "the poison is not set aside")
    birth = GatewayState("ready", 1, EPOCH, witness="ab" * 16)
    gateway.link.publish(topics.state, encode(birth))
    mark = decode(gateway.wait(topics.ack, lambda body: b"go_on" in body), Watermark)
    assert mark.welcome is not None


@pytest.mark.mosquitto
def test_a_roster_number_counts_only_with_the_hub_s_own_signature(
    broker: BrokerSettings, store: Store, service: FleetService, site_key: bytes, card: int
) -> None:
    topics, manifest = GatewayTopics(SITE, GATEWAY), roster_manifest(SITE)
    gateway = Listener(broker, [topics.ack, manifest])

    def version() -> int:
        return read_manifest(gateway.wait(manifest, bool), Trust(site_key), SITE).version

    first = version()
    stranger = Signer(Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32))
    body = encode(Welcome(SITE, GATEWAY, "", "go_on", EPOCH, roster=411)).decode()
    for signer, word in ((stranger, "bb"), (SIGNER, "cc")):
        proof = Signed(body, signer.seal(site_key, WELCOME_PURPOSE + body.encode()).hex())
        birth = GatewayState("ready", 1, EPOCH, roster=1 << 50, witness=word * 16, before=["bb" * 16], proof=proof)
        gateway.link.publish(topics.state, encode(birth))
        gateway.wait(topics.ack, lambda payload, word=word: word * 16 in payload.decode())  # type: ignore[misc]
        if signer is stranger:
            assert version() == first
    wait_until(lambda: version() == 412, "the signed number does not count")
