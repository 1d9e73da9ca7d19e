"""Time from revoking a card at the hub until a connected gateway denies it; hub, mosquitto and gateway as processes.

The clock starts before the change of the card is written to the hub's database, as a hub page writes it, and stops when
the gateway has denied the card. The card is held up again and again, so the pause between taps counts too.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway.bench.ingest import mosquitto_or_embedded
from gateway.cards.identity import CardNumber, card_key
from gateway.errors import FatalError
from gateway.hub.directory.cards import by_hand, set_card_state
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms, open_store
from gateway.simulator.demo_site import GATEWAYS, SITE, GatewayProcess, HubProcess, free_port, write_site
from gateway.simulator.school import School, sample_school

CARDS = 2_000
REVOCATIONS = 40
_READER = "front-in"
_START_SECONDS = 240.0
_DENY_SECONDS = 30.0
_ANSWER_SECONDS = 5.0


class Door:
    """The gateway's serial reader at the front door, probed by tapping cards."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._taps = 0

    def wait_until_it_answers(self) -> None:
        """Wait for the gateway's page.

        Raises:
            FatalError: the gateway ended or does not start.
        """
        deadline = time.monotonic() + _START_SECONDS
        while self._gateway.view() is None:
            if time.monotonic() > deadline or self._gateway.ended() is not None:
                raise FatalError(f"The gateway of the bench does not start: {self._gateway.ended()}")
            time.sleep(0.1)

    def opens_for(self, uid: bytes) -> bool:
        """Hold up a card and tell whether it was granted.

        Raises:
            FatalError: the gateway does not say.
        """
        before = self._counts()
        self._taps += 1
        self._gateway.tap({"n": self._taps, "reader": _READER, "uid": uid.hex(), "dwell_ms": 0})
        self._gateway.answers.get(timeout=_ANSWER_SECONDS)
        deadline = time.monotonic() + _ANSWER_SECONDS
        while (now := self._counts()) == before:
            if time.monotonic() > deadline:
                raise FatalError("The gateway of the bench read no card for five seconds.")
            time.sleep(0.001)
        return now[0] > before[0]

    def _counts(self) -> tuple[int, int]:
        view = self._gateway.view()
        if view is None:
            raise FatalError(f"The gateway of the bench is gone: {self._gateway.ended()}")
        return view["granted"], view["denied"]


def run_bench(cards: int = CARDS, revocations: int = REVOCATIONS) -> dict[str, Any]:
    """Revoke cards one after the other.

    Raises:
        FatalError: a part does not start, or a card was not granted before or not denied after its revocation.
    """
    school = sample_school(cards)
    plan = next(item for item in GATEWAYS if any(reader.id == _READER for reader in item.readers))
    with tempfile.TemporaryDirectory() as name, mosquitto_or_embedded(Path(name)) as (broker, broker_name):
        folder = Path(name)
        ports = [free_port(0) for _ in range(1 + len(GATEWAYS))]
        write_site(folder, school, f"mqtt://127.0.0.1:{broker.port}", ports)
        hub = HubProcess(folder, ports[0])
        hub.start()
        gateway = GatewayProcess(folder, plan, ports[1 + GATEWAYS.index(plan)])
        try:
            door = Door(gateway)
            door.wait_until_it_answers()
            chosen = _single_cards(school, revocations)
            _wait_for_roster(door, chosen[-1])
            store = open_store("sqlite:///hub.db", folder / "hub")
            known = _count_cards(store)
            site_key = bytes.fromhex((folder / "site.key").read_text(encoding="ascii"))
            times_ms = [_revoke(store, door, uid, site_key) for uid in chosen]
            store.close()
        finally:
            gateway.end()
            hub.stop()
    times_ms.sort()
    return {
        "name": "revoke",
        "unit": "ms from the change at the hub to the first denial at a connected gateway",
        "ours": {
            "cards": known,
            "revocations": len(times_ms),
            "p50": round(times_ms[len(times_ms) // 2]),
            "p95": round(times_ms[min(len(times_ms) - 1, len(times_ms) * 95 // 100)]),
            "max": round(times_ms[-1]),
            "broker": broker_name,
        },
        "peers": {},
        "ratio": None,
    }


def _single_cards(school: School, count: int) -> list[bytes]:
    # A card that two people share in the export is somebody's decision, not the roster's.
    holders = Counter(person.uid.raw for person in school.people if person.uid)
    alone = [uid for uid, count in holders.items() if count == 1]
    return random.Random(5).sample(alone, count)


def _wait_for_roster(door: Door, uid: bytes) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not door.opens_for(uid):
        if time.monotonic() > deadline:
            raise FatalError("The roster does not reach the gateway of the bench.")
        time.sleep(0.2)


def _count_cards(store: Store) -> int:
    with store.read() as connection:
        return len(connection.execute(select(tables.card.c.id).where(tables.card.c.site == SITE)).all())


def _revoke(store: Store, door: Door, uid: bytes, site_key: bytes) -> float:
    # Out of step with everything that looks at the database at a steady pace.
    time.sleep(random.uniform(0.2, 1.0))
    if not door.opens_for(uid):
        raise FatalError("A card of the bench was denied before it was revoked.")
    key = card_key(site_key, CardNumber("uid", uid)).hex()
    started = time.monotonic()
    with store.write() as connection:
        card = tables.card
        number = connection.scalar(select(card.c.id).where(card.c.site == SITE, card.c.key == key))
        assert number is not None
        audit = Audit(by_hand("bench"), SITE, now_ms())
        set_card_state(connection, number, "lost", audit)
        audit.write(connection)
    while door.opens_for(uid):
        if time.monotonic() - started > _DENY_SECONDS:
            raise FatalError("A revoked card still opens after thirty seconds.")
    return (time.monotonic() - started) * 1000
