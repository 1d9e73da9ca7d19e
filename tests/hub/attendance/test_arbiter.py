"""Nobody else's mark is overwritten."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.hub.attendance.arbiter import MisMark, Terms, Verdict, decide
from gateway.hub.attendance.codes import EMPTY, ENGLAND
from gateway.hub.attendance.derive import Proposal

DAY = date(2026, 11, 20)
TODAY = Terms(DAY, DAY)


def verdict(code: str, current: MisMark | None, terms: Terms = TODAY, **more: object) -> tuple[str, str | None] | None:
    found = decide(Proposal("AM", code, **more), current, terms)
    return (found.verdict, found.why) if found else None


@pytest.mark.parametrize(
    ("code", "current", "expected"),
    [
        ("L", None, ("write", None)),
        ("L", MisMark(""), ("write", None)),
        ("L", MisMark("-"), ("write", None)),
        ("L", MisMark("N"), ("write", None)),
        ("L", MisMark("L"), ("confirmed", None)),
        ("L", MisMark("L", 7), ("confirmed", None)),
        ("L", MisMark("/"), ("never", None)),
        ("U", MisMark("/"), ("never", None)),
        ("M", MisMark("/"), ("never", None)),
        ("L", MisMark("I"), ("never", "alarm")),
        ("/", MisMark("O"), ("never", "alarm")),
        ("U", MisMark("M"), ("never", "alarm")),
        ("M", MisMark("I"), ("never", None)),
        ("L", MisMark("#"), ("never", None)),
        ("L", MisMark("?"), ("never", None)),
        ("L", MisMark("U", 40, ours=True), ("supersede", None)),
        ("L", MisMark("/", ours=True), ("supersede", None)),
    ],
)
def test_what_the_mis_has_decides(code: str, current: MisMark | None, expected: tuple[str, str | None]) -> None:
    assert verdict(code, current) == expected


def test_our_own_mark_is_sent_again_only_when_its_minutes_changed() -> None:
    assert verdict("L", MisMark("L", 5, ours=True), minutes_late=5) == ("confirmed", None)
    assert verdict("L", MisMark("L", 5, ours=True), minutes_late=6) == ("supersede", None)


def test_whatever_we_propose_a_mark_of_somebody_else_stays() -> None:
    for code in ENGLAND:
        for other in {*ENGLAND, "??"} - EMPTY:
            found = verdict(code, MisMark(other))
            assert found is not None
            assert found[0] == ("confirmed" if code == other else "never")


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (Terms(DAY, DAY, is_read=False), "cannot_read"),
        (Terms(DAY, DAY, on_roll=False), "not_on_roll"),
        (Terms(DAY, DAY, codes={"/"}), "code_unmapped"),
        (Terms(DAY, date(2026, 11, 22)), "too_old"),
    ],
)
def test_what_is_not_known_or_too_late_is_held(terms: Terms, why: str) -> None:
    assert verdict("L", None, terms) == ("hold", why)


def test_a_school_may_write_where_nothing_can_be_read_back() -> None:
    assert verdict("L", None, Terms(DAY, DAY, is_read=False, write_blind=True)) == ("write", None)


def test_a_held_proposal_stays_held_and_none_is_none() -> None:
    assert decide(Proposal("AM", None, hold="time_unsure"), MisMark("/"), TODAY) == Verdict("hold", "time_unsure")
    assert decide(Proposal("AM", None), None, TODAY) is None
