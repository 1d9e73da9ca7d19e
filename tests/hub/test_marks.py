from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.hub.ingest.marks import advance

SEQS = st.lists(st.integers(1, 60), max_size=40)


def _held(upto: int, have: list[tuple[int, int]]) -> set[int]:
    return set(range(1, upto + 1)) | {seq for first, last in have for seq in range(first, last + 1)}


@given(st.lists(SEQS, max_size=6))
def test_a_watermark_holds_exactly_the_numbers_that_came_in_whatever_order(batches: list[list[int]]) -> None:
    upto, have = 0, []
    came: set[int] = set()
    for batch in batches:
        upto, have = advance(upto, have, batch)
        came |= set(batch)
        assert _held(upto, have) == came
        assert upto + 1 not in came
        assert all(first <= last for first, last in have)
        assert all(before[1] + 1 < after[0] for before, after in zip([(0, upto), *have], have, strict=False))


def test_a_gap_that_closes_moves_the_mark_over_everything_behind_it() -> None:
    upto, have = advance(0, [], [1, 2, 4, 5, 9])
    assert (upto, have) == (2, [(4, 5), (9, 9)])
    assert advance(upto, have, [3]) == (5, [(9, 9)])
