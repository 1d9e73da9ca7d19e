from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cards.identity import CardNumber
from gateway.edge.brake import REPORT_SECONDS, UNKNOWN_LIMIT, WINDOW_SECONDS, Brake
from tests.edge.test_app import ALICE, _House, _until


class Desk:
    def __init__(self) -> None:
        self.at = 100.0
        self.reports: list[tuple[str, str, str]] = []
        self.brake = Brake(lambda *report: self.reports.append(report), lambda: self.at)

    def guess(self, count: int, every_seconds: float = 0.1, reader: str = "front") -> list[bool]:
        held = []
        for _ in range(count):
            self.at += every_seconds
            held.append(self.brake.holds(reader))
        return held


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_strangers_at_a_school_s_pace_are_answered(desk: Desk) -> None:
    assert not any(desk.guess(100, WINDOW_SECONDS / UNKNOWN_LIMIT + 0.1))
    assert desk.reports == []


def test_guessing_is_held_and_reported_once(desk: Desk) -> None:
    held = desk.guess(100, 0.02)
    assert held[: UNKNOWN_LIMIT + 1] == [False] * (UNKNOWN_LIMIT + 1)
    assert held[UNKNOWN_LIMIT + 1 :].count(False) == 1, "one a second, in 1.8 s"
    assert [(reader, what) for reader, what, _ in desk.reports] == [("front", "brake")]
    assert desk.brake.braked() == ["front"]


def test_a_queue_of_pupils_whose_cards_nobody_knows_is_recorded_whole(desk: Desk) -> None:
    held = desk.guess(200, 1.2)
    assert not any(held)
    assert desk.brake.braked() == ["front"]


def test_each_reader_has_a_brake_of_its_own(desk: Desk) -> None:
    desk.guess(50)
    assert not any(desk.guess(5, reader="lane"))


def test_the_count_is_recorded_now_and_then_and_the_brake_goes_off_after_a_quiet_while(desk: Desk) -> None:
    desk.guess(50, 0.01)
    desk.brake.tick()
    assert len(desk.reports) == 1
    desk.at += REPORT_SECONDS
    desk.brake.tick()
    assert desk.reports[-1] == ("front", "brake", f"{50 - UNKNOWN_LIMIT - 1} more unknown cards were presented.")
    desk.at += WINDOW_SECONDS + 1
    desk.brake.tick()
    assert desk.reports[-1][1] == "brake_over"
    assert desk.brake.braked() == []
    assert not any(desk.guess(UNKNOWN_LIMIT))


def test_a_guesser_fills_no_journal_and_holds_up_no_pupil(tmp_path: Path) -> None:
    house = _House(tmp_path)
    try:
        for number in range(500):
            house.tap("front", CardNumber("uid", number.to_bytes(4, "big")))
        house.tap("front", ALICE)
        assert house.strike.asserted
        _until(lambda: any(event.decision == "granted" for event in house.events("tap")))
        assert UNKNOWN_LIMIT < len(house.events("tap")) < UNKNOWN_LIMIT + 12
        (alarm,) = [event for event in house.events("reader") if event.data.get("state") == "brake"]
        assert (alarm.point, alarm.reader) == ("front", "front")
        assert house.gateway.tapline.stats.denied == 500
    finally:
        house.stop()
