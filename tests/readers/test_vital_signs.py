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
