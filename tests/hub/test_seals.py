"""The hub's signature on what it says of taps."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import BrokerSettings
from gateway.errors import BadRoster, StoreUnavailable
from gateway.hub.ingest import seals
from gateway.hub.ingest.commit import Committer
from gateway.hub.ingest.mqtt_share import MqttShare
from gateway.hub.ingest.seals import Sealer
from gateway.hub.store.engine import Store
from gateway.link.messages import WATERMARK_PURPOSE, Watermark, watermark_body
from gateway.link.topics import GatewayTopics
from gateway.roster.signing import Signer, Trust
from tests.hub.samples import EPOCH, GATEWAY, SITE, mosquitto, tap, wait_until
from tests.hub.test_mqtt_share import Gateway

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
TOPICS = GatewayTopics(SITE, GATEWAY)
MARK = Watermark(EPOCH, 7, [(9, 12)])


def check(mark: Watermark, site_key: bytes) -> None:
    Trust(site_key, SIGNER.public_key.hex()).check_statement(
        WATERMARK_PURPOSE, watermark_body(SITE, GATEWAY, mark), mark.seal
    )


def test_a_watermark_is_signed_for_its_gateway_with_the_key_of_its_site(store: Store, site_key: bytes) -> None:
    sealed = Sealer(store, SIGNER)(TOPICS, MARK)
    check(sealed, site_key)
    with pytest.raises(BadRoster):
        check(sealed, bytes(32))
    assert Sealer(store, SIGNER)(GatewayTopics("no-such-site", GATEWAY), MARK).seal == ""


def test_a_site_whose_key_cannot_be_read_goes_unsigned_until_it_can(
    store: Store, site_key: bytes, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = key_file.read_text()
    key_file.unlink()
    sealer = Sealer(store, SIGNER)
    assert sealer(TOPICS, MARK).seal == ""
    key_file.write_text(text)
    monkeypatch.setattr(seals, "_KEPT_SECONDS", -1.0)
    check(sealer(TOPICS, MARK), site_key)


def test_the_keys_outlast_a_database_that_is_away(
    store: Store, site_key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealer = Sealer(store, SIGNER)
    sealer(TOPICS, MARK)
    monkeypatch.setattr(seals, "_KEPT_SECONDS", -1.0)

    def away(_store: Store, _sites: list[str]) -> dict[str, bytes]:
        raise StoreUnavailable("The database is away.")

    monkeypatch.setattr(seals, "read_site_keys", away)
    check(sealer(TOPICS, MARK), site_key)


@pytest.mark.mosquitto
def test_a_worker_s_watermarks_carry_the_signature(tmp_path: Path, store: Store, site_key: bytes) -> None:
    with mosquitto(tmp_path) as (broker, _):
        mark = _first_mark(broker, store)
    assert mark.upto == 1
    check(mark, site_key)


def _first_mark(broker: BrokerSettings, store: Store) -> Watermark:
    worker = MqttShare(broker, "hub-0", Committer(store), seal=Sealer(store, SIGNER))
    worker.start()
    gateway = Gateway(broker)

    def committed() -> bool:
        gateway.send(tap(1))
        return gateway.upto() == 1

    wait_until(committed, "the worker commits nothing")
    worker.stop()
    gateway.link.close()
    assert gateway.mark is not None
    return gateway.mark
