"""Presence: one presentation is one tap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.readers.presence import Presence

A, B = b"\x01\x02\x03\x04", b"\x05\x06\x07\x08"
MS = 1_000_000


def test_three_misses_within_the_rearm_time_are_not_a_removal() -> None:
    presence = Presence(60)
    presence.seen(A, 0)
    assert not any(presence.missed(A, ms * MS) for ms in (10, 20, 30, 40, 59))
    assert not presence.seen(A, 59 * MS)


def test_a_long_silence_with_too_few_looks_is_not_a_removal() -> None:
    presence = Presence(60)
    presence.seen(A, 0)
    assert not presence.missed(A, 500 * MS)
    assert not presence.missed(A, 600 * MS)
    assert presence.missed(A, 700 * MS)
    assert presence.seen(A, 701 * MS)


def test_another_card_fires_at_once_and_the_first_stays() -> None:
    presence = Presence(60)
    assert presence.seen(A, 0)
    assert presence.seen(B, 1)
    assert not presence.seen(A, 2)
    assert presence.cards == (A, B)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_a_card_never_fires_twice_without_three_misses_and_the_rearm_time_between(
    looks: list[tuple[bool, int]],
) -> None:
    presence = Presence(60)
    now_ms = 0
    last_sight_ms: int | None = None
    misses = 0
    for hit, gap_ms in looks:
        now_ms += gap_ms
        if hit:
            fired = presence.seen(A, now_ms * MS)
            if fired and last_sight_ms is not None:
                assert misses >= 3
                assert now_ms - last_sight_ms >= 60
            last_sight_ms, misses = now_ms, 0
        else:
            misses += 1
            presence.missed(A, now_ms * MS)
