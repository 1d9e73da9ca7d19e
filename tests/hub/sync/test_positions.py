"""Positions of lists: which of a read may be kept, and when the next read is a whole one."""

from __future__ import annotations

import pytest

from gateway.hub.sync.feed import gather
from gateway.mis.base import Checkpoint, Complete, Ended, FeedItem
from tests.hub.sync.school_reads import row

NEWEST = Checkpoint("students", "2026-11-20")


@pytest.mark.parametrize(
    ("items", "positions"),
    [
        ([row("1"), NEWEST, Ended("students")], {"students": "2026-11-20"}),
        ([row("1"), NEWEST, Complete(1, "students")], {"students": "2026-11-20"}),
        ([row("1"), NEWEST, Complete(2, "students")], {}),
        ([row("1"), NEWEST], {}),
        ([NEWEST, Ended("staff")], {}),
    ],
    ids=["changes", "whole", "count differs", "cut off", "another list"],
)
def test_a_position_counts_only_once_its_list_was_read_to_its_end(
    items: list[FeedItem], positions: dict[str, str]
) -> None:
    assert gather(items).checkpoints == positions


def test_a_read_of_changes_is_known_as_one_and_completes_no_role() -> None:
    feed = gather([row("1"), Ended("students"), Complete(0, "staff")])
    assert feed.is_delta
    assert feed.complete_roles == {"staff"}
