"""Positions of lists: which of a read may be kept, and when the next read is a whole one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.hub.directory.sites import Source
from gateway.hub.store.engine import Store
from gateway.hub.sync import positions as stored
from gateway.hub.sync.feed import gather
from gateway.mis.base import Checkpoint, Complete, Ended, FeedItem
from tests.hub.samples import SITE
from tests.hub.sync.school_reads import Site, row

BOTH_DATABASES = True
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


def test_a_position_is_of_one_source_and_of_its_settings(store: Store) -> None:
    site = Site(store)
    one, two = (Source(site.source(name), SITE, name, "wonde", {"school_id": "A1"}, "site.key") for name in ("a", "b"))
    with store.write() as connection:
        stored.keep(connection, one, 1, {"students": "2026-11-20T08:00:00.000Z", "staff": "x"})
        stored.keep(connection, one, 2, {"students": "2026-11-21T08:00:00.000Z"})
        stored.keep(connection, two, 3, {"students": "y"})
        assert stored.positions_of(connection, one) == {"students": "2026-11-21T08:00:00.000Z", "staff": "x"}
        assert stored.positions_of(connection, replace(one, options={"school_id": "A2"})) == {}
        stored.forget(connection, one.id)
        assert stored.positions_of(connection, one) == {}
        assert stored.positions_of(connection, two) == {"students": "y"}
