"""The score of a reader: what each sign costs and what it advises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.readers.base import Vitals
from gateway.readers.vital_signs import Score, score

GOOD = Vitals(state="ready", polls=100_000, presentations=400, retries=40, errors=3)


def test_a_reader_without_signs_has_all_points() -> None:
    assert score(GOOD) == Score(100, "")
    assert score(Vitals(state="ready")) == Score(100, "")


@pytest.mark.parametrize(
    ("sign", "word"),
    [({"resets": 2}, "supply"), ({"reopens": 3}, "cable"), ({"retries": 300}, "antenna"), ({"errors": 60}, "noise")],
)
def test_each_sign_costs_points_and_names_its_cause(sign: dict[str, int], word: str) -> None:
    judged = score(replace(GOOD, **sign))
    assert 5 <= judged.points < 100
    assert word in judged.advice


def test_a_lost_reader_has_no_points_and_says_why() -> None:
    assert score(replace(GOOD, state="offline", detail="unplugged")) == Score(0, "unplugged")


def test_old_troubles_do_not_count_for_the_time_since() -> None:
    before = replace(GOOD, resets=5, errors=100)
    now = replace(before, presentations=500, polls=200_000)
    assert score(before).points < 100
    assert score(now, before) == Score(100, "")


@pytest.mark.parametrize(
    ("signs", "word"),
    [
        ({"dropped": 12, "errors": 12, "proposal": "another baud"}, "another baud"),
        ({"presentations": 12, "refused": 12, "proposal": 'encoding = "em4100"'}, "em4100"),
        ({"presentations": 1, "refused": 1, "proposal": "em4100"}, "complete"),
        ({"presentations": 40, "refused": 20}, "not noise"),
        ({"presentations": 40, "counters": {"taps lost": 2}}, "2 taps were lost"),
        ({"presentations": 40, "state": "degraded", "detail": "Another program reads it."}, "Another program"),
    ],
)
def test_a_reader_that_hears_without_reading_is_not_good_and_says_why(signs: dict[str, object], word: str) -> None:
    judged = score(replace(Vitals(state="ready"), **signs))
    assert judged.points < 100
    assert word in judged.advice
    assert "noise, or" not in judged.advice


def test_a_reader_that_reads_may_have_dropped_something_once() -> None:
    assert score(replace(GOOD, dropped=1, errors=1, refused=2)) == Score(100, "")
