"""One card at two doors within a moment is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update

from gateway.hub.facts.runner import rebuild
from gateway.hub.facts.two_places import TwoPlaces
from gateway.hub.ingest.commit import Committer
from gateway.hub.scope import ALL_SITES
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.revisions import note_revised
from gateway.hub.store.times import to_ms
from gateway.hub.web.suspicions import count_suspicions, list_suspicions
from tests.hub.samples import follow, message, tap

BOTH_DATABASES = True
AYSHA = "p_" + "a" * 16
NOW_MS = to_ms(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
KEY = "0f" * 16
SENTENCE = "gate and library: a card ending ..E5F6 was let in at both within two seconds; one of them is a copy"


def passed(seq: int, point: str, second: str, gateway: str = "gw-canteen", **fields: object) -> bytes:
    fields = {"at": f"2026-11-20T08:41:{second}Z", "point": point, "person": AYSHA, **fields}
    return tap(seq, gateway=gateway, key=KEY, **fields)


def findings(store: Store) -> list[str]:
    with store.read() as connection:
        return [item.what for item in list_suspicions(ALL_SITES, connection, NOW_MS)]


def commit(store: Store, *events: bytes, gateway: str = "gw-canteen") -> None:
    Committer(store).commit([message(*events, gateway=gateway)])
    follow(store)


@pytest.mark.parametrize("order", [("gw-canteen", "gw-library"), ("gw-library", "gw-canteen")])
def test_one_card_at_two_points_at_once_is_told_whichever_gateway_is_heard_first(
    store: Store, order: tuple[str, str]
) -> None:
    taps = {
        "gw-canteen": passed(1, "library", "10.000"),
        "gw-library": passed(1, "gate", "11.900", gateway="gw-library"),
    }
    for gateway in order:
        commit(store, taps[gateway], gateway=gateway)
    assert findings(store) == [SENTENCE]
    with store.read() as connection:
        assert [row[2:] for row in count_suspicions(connection)] == [("gate", "two_places", 1)]


def test_two_in_one_step_are_told_once(store: Store) -> None:
    commit(store, passed(1, "library", "10.000"), passed(2, "gate", "11.000"))
    assert findings(store) == [SENTENCE]


@pytest.mark.parametrize(
    ("point", "second", "fields"),
    [
        ("gate", "12.001", {}),
        ("library", "10.500", {}),
        ("gate", "10.500", {"decision": "denied", "reason": "no_access"}),
        ("gate", "10.500", {"clock": "free"}),
    ],
    ids=["later", "the same point", "denied", "no clock"],
)
def test_what_an_honest_card_can_do_is_not_told(
    store: Store, point: str, second: str, fields: dict[str, object]
) -> None:
    commit(store, passed(1, "library", "10.000"), passed(2, point, second, **fields))
    assert findings(store) == []


def test_a_time_that_is_corrected_later_takes_it_back_and_a_rebuild_finds_the_same(store: Store) -> None:
    commit(store, passed(1, "library", "10.000"), passed(2, "gate", "11.000"))
    with store.write() as connection:
        rebuild(connection, TwoPlaces())
    assert findings(store) == []
    follow(store)
    assert findings(store) == [SENTENCE]
    event = tables.event
    with store.write() as connection:
        number, epoch = connection.execute(select(event.c.gateway, event.c.epoch).limit(1)).one()
        moved = update(event).where(event.c.seq == 2).values(at_ms=event.c.at_ms + 60_000)
        connection.execute(moved)
        note_revised(connection, [(number, epoch, 2)])
    follow(store)
    assert findings(store) == []
