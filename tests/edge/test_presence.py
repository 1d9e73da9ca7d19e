"""The hub's list of who is in, at the kiosks of a gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.presence import SitePresence
from gateway.edge.tapline import Seat
from gateway.errors import BadMessage, BadRoster
from gateway.journal.journal import Journal
from gateway.link.client import Arrived
from gateway.link.messages import PRESENCE_PURPOSE, WELCOME_PURPOSE, Present, SealedPresence, encode
from gateway.points.door import Door
from gateway.points.kiosk import Kiosk
from gateway.roster.signing import Trust
from tests.edge.test_standing import KEY, SIGNER, STRANGER
from tests.journal.journals import small, tap

ANN, BEN = "p_00000000000000a1", "p_00000000000000b0"
TODAY = date(2026, 11, 20)


class Desk:
    """Two kiosks and a door over a journal."""

    def __init__(self, folder: Path) -> None:
        self.journal: Journal = small(folder)
        self.today: date | None = TODAY
        self.kiosks = [Kiosk("desk"), Kiosk("hall")]
        seats = {item.name: Seat(item) for item in (*self.kiosks, Door("front"))}
        trust = Trust(KEY, SIGNER.public_key.hex())
        self.presence = SitePresence(
            seats, lambda: trust, "st-marys", "gw", self.journal.after, lambda: self.journal.epoch, lambda: self.today
        )

    def move(self, person: str, **movement: Any) -> int:
        event = tap()
        event.kind, event.person, event.movement = "movement", person, movement
        return self.journal.append(event).wait(5)

    def hear(self, *people: str, upto: int = 0, day: str = "2026-11-20", site: str = "st-marys", **how: Any) -> None:
        covered = {"gw": {self.journal.epoch: upto}}
        body = encode(Present(site, day, 1, list(people), covered)).decode()
        signer, purpose = how.get("signer", SIGNER), how.get("purpose", PRESENCE_PURPOSE)
        payload = encode(SealedPresence(body, signer.seal_statement(KEY, purpose, body)))
        self.presence.take(Arrived("t", how.get("payload", payload), True, 1, 1, 0))

    @property
    def signed_in(self) -> set[str]:
        first, second = (kiosk.signed_in for kiosk in self.kiosks)
        assert first == second
        return first


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.journal.close()


def test_who_signed_in_at_another_gateway_is_in_at_every_kiosk_here(desk: Desk) -> None:
    desk.hear(ANN)
    assert desk.signed_in == {ANN}
    desk.hear(BEN)
    assert desk.signed_in == {BEN}


def test_what_was_recorded_here_since_counts_on_top(desk: Desk) -> None:
    first = desk.move(ANN, direction="in")
    desk.move(BEN, direction="in")
    desk.move(ANN, direction="out", id="x")
    desk.move(ANN, direction="out", kind="check", replaces="x")
    desk.hear(ANN, upto=first)
    assert desk.signed_in == {ANN, BEN}
    desk.hear(ANN, upto=99)
    assert desk.signed_in == {ANN}


def test_at_midnight_everybody_is_out_and_a_list_of_yesterday_is_left_alone(desk: Desk) -> None:
    desk.presence.tick()
    desk.hear(ANN)
    desk.presence.tick()
    assert desk.signed_in == {ANN}
    desk.today = date(2026, 11, 21)
    desk.hear(ANN, BEN)
    assert desk.signed_in == {ANN}
    desk.presence.tick()
    assert desk.signed_in == set()
    desk.today = None
    desk.presence.tick()
    desk.hear(BEN)
    assert desk.signed_in == {BEN}, "without a clock the hub's day is believed"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"signer": STRANGER}, BadRoster),
        ({"purpose": WELCOME_PURPOSE}, BadRoster),
        ({"payload": b"{"}, BadMessage),
        ({"payload": json.dumps({"body": "{}", "seal": ""}).encode()}, BadRoster),
    ],
)
def test_a_list_that_is_not_the_hub_s_changes_nobody(desk: Desk, how: dict[str, Any], error: type[Exception]) -> None:
    desk.hear(ANN)
    with pytest.raises(error):
        desk.hear(BEN, **how)
    desk.hear(BEN, site="st-johns")
    desk.hear(payload=b"")
    assert desk.signed_in == {ANN}


def test_names_and_numbers_do_not_pass_as_references(desk: Desk) -> None:
    with pytest.raises(BadMessage):
        desk.hear("Ann Smith")
