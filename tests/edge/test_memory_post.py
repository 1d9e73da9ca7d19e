from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.event import MEMORY_EPOCH, decode_event
from gateway.edge.memory_post import MemoryPost
from gateway.edge.outbox import EVENTS_PER_MESSAGE
from gateway.journal.unsaved import Unsaved
from tests.journal.journals import assert_chained, tap


@pytest.fixture
def unsaved(tmp_path: Path) -> Iterator[Unsaved]:
    made = Unsaved(tmp_path, None)
    yield made
    made.close()


@pytest.fixture
def post(unsaved: Unsaved) -> MemoryPost:
    return MemoryPost(unsaved, 10.0)


def hold(unsaved: Unsaved, count: int) -> None:
    for number in range(count):
        assert unsaved.take(tap(number), "The disk refuses.")


def numbers(events: list[tuple[int, bytes]]) -> list[int]:
    return [seq for seq, _ in events]


def test_events_go_in_their_own_chain_and_what_came_meanwhile_goes_next(unsaved: Unsaved, post: MemoryPost) -> None:
    hold(unsaved, 3)
    events = post.next(0.0, 100_000)
    assert numbers(events) == [1, 2, 3]
    assert_chained([raw for _, raw in events])
    assert decode_event(events[0][1]).epoch.startswith(MEMORY_EPOCH)
    post.was_sent(events, 7, 0.0)
    hold(unsaved, 2)
    assert post.next(0.1, 100_000) == []
    assert not post.published(8, None, 0.1)
    assert post.published(7, None, 0.1)
    assert numbers(post.next(0.2, 100_000)) == [4, 5]


def test_without_the_hub_s_word_all_goes_again_and_with_it_nothing(unsaved: Unsaved, post: MemoryPost) -> None:
    hold(unsaved, 4)
    post.was_sent(post.next(0.0, 100_000), 1, 0.0)
    post.published(1, None, 0.1)
    assert post.next(9.0, 100_000) == []
    assert numbers(post.next(10.0, 100_000)) == [1, 2, 3, 4]
    post.watermark(2, [(4, 4)])
    assert numbers(post.next(30.0, 100_000)) == [3]
    post.watermark(4, [])
    assert post.is_empty
    # Delivered is not journaled: they wait for the disk as before.
    assert unsaved.held == 4
    assert unsaved.open_tally.count == 0


def test_a_refusal_a_broken_connection_and_a_small_limit(unsaved: Unsaved, post: MemoryPost) -> None:
    hold(unsaved, EVENTS_PER_MESSAGE + 5)
    events = post.next(0.0, 100_000)
    assert len(events) == EVENTS_PER_MESSAGE
    post.was_sent(events, 1, 0.0)
    post.published(1, "Not authorized", 0.0)
    assert post.next(1.0, 100_000) == []
    events = post.next(6.0, 1)
    assert numbers(events) == [1]
    post.was_sent(events, 2, 6.0)
    post.disconnected()
    assert numbers(post.next(6.1, 100_000))[0] == 1


def test_a_watermark_out_of_all_reason_delivers_nothing(unsaved: Unsaved, post: MemoryPost) -> None:
    hold(unsaved, 2)
    post.watermark(99, [])
    assert numbers(post.next(0.0, 100_000)) == [1, 2]
