from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET

from gateway.access.event import Event, decode_event
from gateway.access.people import CardEntry, CardState, Copies, PointRules, Rule
from gateway.access.schedule import Schedule, parse_window
from gateway.cards.identity import CardNumber, card_key
from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.edge.clock import KernelClock
from gateway.edge.health import findings, verdict
from gateway.errors import JournalFull
from gateway.outputs.simulated import SimulatedStrike
from gateway.points.kiosk import Kiosk
from gateway.readers.base import DRIVERS, CardRead, CardSuspicion
from gateway.roster.file import RosterContent, build, rule_for_everyone
from gateway.roster.signing import Signer
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.iso14443_cards import CLASSIC_1K, NTAG, Card

SITE_KEY = bytes(32)
ALICE = CardNumber("uid", bytes.fromhex("04a1a2a3a4a5a6"))
BOB = CardNumber("uid", bytes.fromhex("0b112233"))
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))


POINTS = (("lane", "lane"), ("front", "door"), ("desk", "kiosk"))


class _House:
    """A gateway with a lane, a door and a kiosk on simulated wires; may be started again on the same folder."""

    def __init__(
        self,
        folder: Path,
        extra: str = "",
        points: Sequence[tuple[str, str]] = POINTS,
        pages: Literal["child", "elsewhere"] = "child",
    ) -> None:
        self.folder, self.extra, self.pages = folder, extra, pages
        (folder / "site.key").write_text(SITE_KEY.hex(), encoding="ascii")
        lines = ['[gateway]\nid = "gw"\nsite = "st-marys"\nstate_dir = "state"\nsite_key_file = "site.key"', extra]
        for number, (name, kind) in enumerate(points):
            lines.append(
                f'[[reader]]\nid = "{name}"\ndriver = "rc522"\nport = "/dev/spidev{number}.0"\npoint = "{name}"'
            )
            lines.append(f'[[point]]\nid = "{name}"\nkind = "{kind}"')
        (folder / "gateway.toml").write_text("\n".join(lines), encoding="utf-8")
        self.start()

    def start(self) -> None:
        self.wires = SimulatedTransports()
        self.strike = SimulatedStrike()
        settings = load_gateway(self.folder / "gateway.toml", tuple(DRIVERS))
        self.gateway = Gateway(settings, self.wires, strikes={"front": self.strike})
        if self.gateway.roster.current is None:
            people = {ALICE: "p_00000000000000a1", BOB: "p_00000000000000b0"}
            cards = {
                card_key(SITE_KEY, number): CardEntry(person, CardState.ACTIVE, frozenset(), None, None, True)
                for number, person in people.items()
            }
            content = RosterContent("st-marys", 1, cards, {"*": rule_for_everyone()})
            self.gateway.roster.install(build(content, SIGNER, SITE_KEY))
        self.gateway.start(pages=self.pages)

    def stop(self) -> None:
        self.gateway.stop()
        self.wires.close()

    def tap(self, reader: str, number: CardNumber) -> None:
        self.gateway.tapline.handle(CardRead(reader, number, "ntag", time.monotonic_ns()))

    def events(self, kind: str) -> list[Event]:
        events = [decode_event(raw) for _, raw in self.gateway.journal.after(0, 1 << 20)]
        return [event for event in events if event.kind == kind]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[_House]:
    house = _House(tmp_path)
    yield house
    house.stop()


def _until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_cards_held_to_three_readers_at_once_are_three_taps(house: _House) -> None:
    _until(lambda: all(row.state == "ready" for row in house.gateway.view().readers))
    for number, card in enumerate((Card(NTAG, ALICE.value), Card(CLASSIC_1K, BOB.value), Card(NTAG, ALICE.value))):
        house.wires.field(f"/dev/spidev{number}.0").enter(card)
    _until(lambda: len(house.events("tap")) == 3)
    assert {(event.point, event.decision) for event in house.events("tap")} == {
        ("lane", "granted"),
        ("front", "granted"),
        ("desk", "granted"),
    }
    assert house.strike.asserted


def test_a_granted_tap_at_the_kiosk_is_a_tap_and_a_movement_of_the_person(house: _House) -> None:
    house.tap("desk", ALICE)
    _until(lambda: house.events("movement"))
    movement = house.events("movement")[0]
    assert (movement.person, movement.movement, movement.point) == ("p_00000000000000a1", {"direction": "in"}, "desk")
    assert house.events("tap")[0].seq < movement.seq


def test_who_is_signed_in_is_known_again_after_a_restart(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.tap("desk", ALICE)
    house.tap("desk", BOB)
    _until(lambda: len(house.events("movement")) == 2)
    house.stop()
    house.start()
    kiosk = house.gateway.seats["desk"].point
    assert isinstance(kiosk, Kiosk)
    assert kiosk.signed_in == {"p_00000000000000a1", "p_00000000000000b0"}
    house.stop()


def _said(gateway: Gateway) -> list[dict[str, Any]]:
    journal = gateway.journal
    events = (decode_event(raw) for _, raw in journal.after(journal.acked, 1000))
    return [event.system for event in events if event.kind == "system" and isinstance(event.system, dict)]


def test_with_a_full_journal_the_door_still_opens_and_the_lane_does_not_serve(tmp_path: Path) -> None:
    house = _House(tmp_path, "[journal]\nquota_mib = 4\nsegment_kib = 64")
    with contextlib.suppress(JournalFull):
        while True:
            tickets = [house.gateway.recorder.record("system", system={"what": "fill"}) for _ in range(500)]
            tickets[-1].wait(10)
    unrecorded = house.gateway.tapline.stats.unrecorded
    house.tap("lane", ALICE)
    assert house.gateway.tapline.stats.unrecorded == unrecorded + 1
    assert house.gateway.seats["lane"].point.state == "idle"
    house.tap("front", ALICE)
    assert house.strike.asserted
    assert "has a problem" in verdict(house.gateway.view()).sentence
    head = house.gateway.journal.head
    house.gateway.journal.acknowledge(head, [])
    _until(lambda: house.gateway.journal.stats().state == "ok")
    house.tap("lane", BOB)
    assert house.gateway.seats["lane"].point.state == "presented"
    # What the journal refused waited in memory: the tap of the lane is there, and that it was not served.
    stats = house.gateway.journal.stats()
    assert (stats.unsaved, stats.lost) == (0, 0)
    late = [event for event in house.events("tap") if event.was is not UNSET]
    assert late[0].point == "lane"
    assert {"lane", "front"} == {event.point for event in house.events("tap")}
    (told,) = (item for item in _said(house.gateway) if item["what"] == "tap_not_served")
    assert "quota" in told["why"]
    house.stop()


def test_pins_without_a_raspberry_pi_are_a_named_fault_and_the_rest_runs(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.stop()
    text = (tmp_path / "gateway.toml").read_text(encoding="utf-8")
    (tmp_path / "gateway.toml").write_text(
        text.replace('id = "front"\nkind = "door"', 'id = "front"\nkind = "door"\nstrike_gpio = 17'), encoding="utf-8"
    )
    settings = load_gateway(tmp_path / "gateway.toml", tuple(DRIVERS))
    gateway = Gateway(settings, SimulatedTransports())
    gateway.start()
    _until(lambda: all(row.state == "ready" for row in gateway.view().readers))
    gateway.tapline.handle(CardRead("lane", ALICE, "ntag", time.monotonic_ns()))
    found = verdict(gateway.view())
    gateway.stop()
    assert (found.level, found.sentence) == ("bad", "A door output does not work.")
    assert gateway.tapline.stats.granted == 1


def test_a_taken_web_port_does_not_keep_the_door_shut(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        house = _House(tmp_path, f"[web]\nport = {taken.getsockname()[1]}")
        house.tap("front", ALICE)
        assert house.strike.asserted
        _until(lambda: any(event.system["what"] == "web_failed" for event in house.events("system")))
        house.stop()


def test_a_start_and_a_stop_are_events(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.stop()
    house.start()
    _until(lambda: len(house.events("system")) == 4)
    said = [event.system["what"] for event in house.events("system")]
    assert said == ["started", "stopped", "checkpoint", "started"]
    house.stop()


def test_without_a_roster_every_tap_is_denied_and_still_an_event(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.stop()
    for path in (tmp_path / "state" / "roster").iterdir():
        path.unlink()
    settings = load_gateway(tmp_path / "gateway.toml", tuple(DRIVERS))
    gateway = Gateway(settings, SimulatedTransports(), strikes={"front": house.strike})
    gateway.start()
    gateway.tapline.handle(CardRead("front", ALICE, "ntag", time.monotonic_ns()))
    _until(lambda: any(row.reason == "roster_missing" for row in list(gateway.taps)))
    assert not house.strike.asserted
    gateway.stop()


def test_the_start_up_path_imports_neither_web_nor_hub(tmp_path: Path) -> None:
    program = (
        "import sys, gateway.edge.app; print([m for m in ('fastapi', 'uvicorn', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_suspicion_is_recorded_after_the_tap_and_changes_no_decision(house: _House) -> None:
    house.tap("front", ALICE)
    house.gateway.tapline.handle(CardSuspicion("front", "backdoor", time.monotonic_ns(), ALICE.tail))
    _until(lambda: any(event.data.get("state") == "suspicion" for event in house.events("reader")))
    [said] = [event for event in house.events("reader") if event.data["state"] == "suspicion"]
    assert (said.point, said.reader) == ("front", "front")
    assert said.data == {"state": "suspicion", "sign": "backdoor", "tail": "A5A6"}
    assert [event.decision for event in house.events("tap")] == ["granted"]


def _deny_copies(house: _House) -> None:
    people = {
        card_key(SITE_KEY, number): CardEntry(person, CardState.ACTIVE, frozenset(groups), None, None, True)
        for number, person, groups in (
            (ALICE, "p_00000000000000a1", {"pupils"}),
            (BOB, "p_00000000000000b0", {"staff"}),
        )
    }
    everyone = rule_for_everyone()
    points = {"*": everyone, "front": replace(everyone, copies=Copies.STAFF)}
    house.gateway.roster.install(build(RosterContent("st-marys", 2, people, points), SIGNER, SITE_KEY))


def _reasons(house: _House, reader: str) -> list[str]:
    return [str(event.reason) for event in house.events("tap") if event.reader == reader]


def test_a_point_that_serves_no_copies_denies_a_suspected_card_from_its_next_tap_on(tmp_path: Path) -> None:
    house = _House(tmp_path)
    _deny_copies(house)
    for number in (ALICE, BOB):
        house.tap("front", number)
        house.gateway.tapline.handle(CardSuspicion("front", "backdoor", time.monotonic_ns(), number.tail))
        house.tap("front", number)
        house.tap("desk", number)
    _until(lambda: len(house.events("tap")) == 6)
    assert _reasons(house, "front") == ["ok", "card_copied", "ok", "ok"], "staff still pass"
    assert _reasons(house, "desk") == ["ok", "ok"], "another point only logs"
    _until(lambda: house.gateway.journal.tinydb.table("copies").get(doc_id=1))
    house.stop()
    house.start()
    house.tap("front", ALICE)
    _until(lambda: len(house.events("tap")) == 7)
    assert _reasons(house, "front")[-1] == "card_copied", "a restart forgets nothing"
    house.stop()


@pytest.mark.parametrize(("sign", "tail"), [("static_nonce", ALICE.tail), ("backdoor", "FFFF")])
def test_a_weak_sign_or_another_card_s_denies_nobody(house: _House, sign: str, tail: str) -> None:
    _deny_copies(house)
    house.tap("front", ALICE)
    house.gateway.tapline.handle(CardSuspicion("front", sign, time.monotonic_ns(), tail))
    house.tap("front", ALICE)
    _until(lambda: len(house.events("tap")) == 2)
    assert _reasons(house, "front") == ["ok", "ok"]


def test_an_old_roster_put_back_on_the_card_opens_nothing_and_is_named(tmp_path: Path) -> None:
    house = _House(tmp_path)
    folder = tmp_path / "state" / "roster"
    old = (folder / "current.roster").read_bytes()
    people = {card_key(SITE_KEY, ALICE): CardEntry("p_00000000000000a1", CardState.LOST, frozenset(), None, None, True)}
    content = RosterContent("st-marys", 2, people, {"*": rule_for_everyone()})
    house.gateway.roster.install(build(content, SIGNER, SITE_KEY))
    house.gateway._on_roster()
    house.tap("front", ALICE)
    _until(lambda: [event.reason for event in house.events("tap")] == ["card_lost"])
    house.stop()
    (folder / "current.roster").write_bytes(old)
    settings = load_gateway(tmp_path / "gateway.toml", tuple(DRIVERS))
    strike = SimulatedStrike()
    gateway = Gateway(settings, SimulatedTransports(), strikes={"front": strike})
    gateway.start()
    gateway.tapline.handle(CardRead("front", ALICE, "ntag", time.monotonic_ns()))
    _until(lambda: any(row.reason == "roster_stale" for row in list(gateway.taps)))
    _until(lambda: all(row.state == "ready" for row in gateway.view().readers))
    found = findings(gateway.view())
    gateway.stop()
    assert not strike.asserted
    assert any(item.level == "bad" and "put back" in item.remedy for item in found)


def test_a_door_with_hours_says_that_nobody_has_set_the_clock(tmp_path: Path) -> None:
    house = _House(tmp_path)
    try:
        hours = Schedule("hours", (parse_window("mon-sun 00:00-24:00"),))
        rules = PointRules((Rule("day", frozenset(), hours),))
        people = {
            card_key(SITE_KEY, ALICE): CardEntry("p_00000000000000a1", CardState.ACTIVE, frozenset(), None, None, True)
        }
        content = RosterContent("st-marys", 2, people, {"front": rules})
        house.gateway.roster.install(build(content, SIGNER, SITE_KEY))
        clock = house.gateway.clock
        clock._kernel = lambda: KernelClock(False, 1000)
        clock._timesync_mark, clock._has_rtc, clock._recorded = tmp_path / "none", False, None
        clock.due_record()
        house.tap("front", ALICE)
        assert not house.strike.asserted
        _until(lambda: [event.reason for event in house.events("tap")] == ["clock_unset"])
        assert any("hours" in item.sentence for item in findings(house.gateway.view()))
        clock._kernel = lambda: KernelClock(True, 1)
        clock.due_record()
        house.tap("front", ALICE)
        assert house.strike.asserted
        clock._kernel = lambda: KernelClock(False, 16_000_000)
        clock.due_record()
        house.tap("front", ALICE)
        _until(lambda: [event.decision for event in house.events("tap")] == ["denied", "granted", "granted"])
    finally:
        house.stop()


def test_hours_are_those_of_the_site_s_zone_whatever_the_gateway_s_own_is(tmp_path: Path) -> None:
    house = _House(tmp_path)
    try:
        content = RosterContent("st-marys", 2, {}, {"*": rule_for_everyone()}, zone="Pacific/Kiritimati")
        house.gateway.roster.install(build(content, SIGNER, SITE_KEY))
        assert str(house.gateway._moment().local.tzinfo) == "Pacific/Kiritimati"
        assert str(house.gateway.settings.timezone) == "Europe/London"
    finally:
        house.stop()
