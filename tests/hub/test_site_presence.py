"""Who is in, as the hub tells the kiosks of a site."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.hub.facts.by_hand import note_by_hand
from gateway.hub.fleet import presence as module
from gateway.hub.fleet.presence import PresencePublisher
from gateway.hub.ingest.commit import Committer
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store
from gateway.hub.store.times import to_ms
from gateway.link.messages import PRESENCE_PURPOSE, Present, SealedPresence, decode
from gateway.link.topics import site_presence
from gateway.roster.signing import Trust
from tests.hub.facts.test_presence import AYSHA, BEN, moved
from tests.hub.samples import SITE, follow, message
from tests.hub.test_fleet import SIGNER

BOTH_DATABASES = True


class Link:
    """Keeps what is published; refuses while away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.is_away = False

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        assert retain
        if self.is_away:
            return None
        self.sent.append((topic, payload))
        return len(self.sent)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", -1.0)


class Hub:
    """A publisher with a clock that the test moves."""

    def __init__(self, store: Store, site_key: bytes) -> None:
        self.store, self.key, self.link = store, site_key, Link()
        self.now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
        self.publisher = PresencePublisher(store, SIGNER, clock=lambda: to_ms(self.now))

    def turn(self) -> int:
        before = len(self.link.sent)
        link: Any = self.link
        self.publisher.turn(link)
        return len(self.link.sent) - before

    def last(self) -> Present:
        topic, payload = self.link.sent[-1]
        assert topic == site_presence(SITE)
        sealed = decode(payload, SealedPresence)
        Trust(self.key, SIGNER.public_key.hex()).check_statement(PRESENCE_PURPOSE, sealed.body, sealed.seal)
        return msgspec.json.decode(sealed.body, type=Present)


@pytest.fixture
def hub(store: Store, site_key: bytes) -> Hub:
    return Hub(store, site_key)


def test_the_list_follows_movements_and_says_what_it_covers(store: Store, hub: Hub) -> None:
    assert hub.turn() == 0
    Committer(store).commit([message(moved(1, AYSHA, "in"), moved(2, BEN, "in"))])
    follow(store)
    assert hub.turn() == 1
    assert hub.last() == Present(SITE, "2026-11-20", to_ms(hub.now), [AYSHA, BEN], {"gw-canteen": {"5f1c9a02": 2}})
    assert hub.turn() == 0, "nothing changed"
    Committer(store).commit([message(moved(3, AYSHA, "out", "15:30"))])
    follow(store)
    assert hub.turn() == 1
    assert hub.last().people == [BEN]


def test_a_movement_by_hand_and_midnight_change_it_too(store: Store, hub: Hub) -> None:
    with store.write() as connection:
        audit = Audit("person:office", SITE, to_ms(hub.now), reason="forgot the card")
        note_by_hand(connection, SITE, AYSHA, "in", to_ms(hub.now), audit)
    assert hub.turn() == 1
    assert hub.last().people == [AYSHA]
    hub.now = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
    assert hub.turn() == 1
    assert (hub.last().day, hub.last().people) == ("2026-11-21", [])


def test_it_is_sent_again_after_a_connect_and_once_the_broker_is_back(store: Store, hub: Hub) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"))])
    follow(store)
    hub.link.is_away = True
    assert hub.turn() == 0
    hub.link.is_away = False
    assert hub.turn() == 1
    hub.publisher.start_over()
    assert hub.turn() == 1
