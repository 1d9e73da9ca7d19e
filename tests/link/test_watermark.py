from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link.watermark import MAX_RANGES, Coverage

ranges = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=30)


@settings(deadline=None)
@given(ranges, st.integers(1, 80), st.integers(0, 20))
def test_a_coverage_is_the_set_of_what_was_added_in_its_shortest_form(
    added: list[tuple[int, int]], first: int, length: int
) -> None:
    coverage = Coverage()
    model: set[int] = set()
    for low, high in added:
        coverage.add(low, high)
        model |= set(range(low, high + 1))
    told = set(range(1, coverage.upto + 1)) | {n for low, high in coverage.have for n in range(low, high + 1)}
    assert told == model
    ends = [coverage.upto, *(edge for pair in coverage.have for edge in pair)]
    assert ends == sorted(ends)
    assert all(
        low > before + 1
        for (low, _), before in zip(coverage.have, [coverage.upto, *(h for _, h in coverage.have)], strict=False)
    )
    assert coverage.covers(first, first + length) == (set(range(first, first + length + 1)) <= model)
    assert coverage.next_missing(first) == next(n for n in range(first, 200) if n not in model)
    if first > coverage.upto:
        assert coverage.next_known(first) == next((n for n in range(first, 200) if n in model), None)


def test_a_later_statement_never_takes_anything_back() -> None:
    coverage = Coverage(100, [(105, 110)])
    coverage.merge(90, [(107, 108)])
    assert coverage == Coverage(100, [(105, 110)])
    coverage.merge(104, [])
    assert coverage == Coverage(110)


def test_only_the_lowest_gaps_are_told_so_that_a_message_stays_small() -> None:
    coverage = Coverage()
    for seq in range(2, 4 * MAX_RANGES, 2):
        coverage.add(seq, seq)
    assert len(coverage.ranges) == MAX_RANGES
    assert coverage.ranges[0] == (2, 2)
