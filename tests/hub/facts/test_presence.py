"""Movements and presence follow the events, whatever order they come in, and are made again from nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from msgspec import UNSET
from sqlalchemy import Connection, select, update

from gateway.hub.facts.base import Held
from gateway.hub.facts.presence import Presence
from gateway.hub.facts.runner import rebuild
from gateway.hub.fleet.true_time import TimeRepair
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.revisions import note_revised
from gateway.hub.store.times import from_ms
from tests.hub.samples import follow, message, tap
from tests.hub.test_true_time import UNSET_STAMP, clock_record

BOTH_DATABASES = True
AYSHA, BEN = "p_" + "a" * 16, "p_" + "b" * 16


def moved(seq: int, person: str, direction: object, minute: str = "08:41", **fields: object) -> bytes:
    body = {"person": person, "direction": direction, **fields.pop("body", {})}  # type: ignore[dict-item]  # a dict
    fields = {"at": f"2026-11-20T{minute}:00.000Z", "point": "desk", "person": person, **fields}
    return tap(seq, kind="movement", movement=body, card=UNSET, decision=UNSET, reason=UNSET, **fields)


def who(store: Store) -> dict[str, str]:
    with store.read() as connection:
        table = tables.presence
        return {row.person: row.state for row in connection.execute(select(table.c.person, table.c.state))}


def held(store: Store) -> list[tuple[object, ...]]:
    """Return everything that the projector keeps, for comparison."""
    with store.read() as connection:
        movements = connection.execute(select(tables.movement).order_by(*tables.movement.primary_key))
        found = [tuple(row) for row in movements]
        return found + [tuple(row) for row in connection.execute(select(tables.presence).order_by("site", "person"))]


def test_a_sign_in_and_a_sign_out_change_who_is_in(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"), moved(2, BEN, "in", "08:42"))])
    follow(store)
    assert who(store) == {AYSHA: "in", BEN: "in"}
    Committer(store).commit([message(moved(3, AYSHA, "out", "15:30"))])
    follow(store)
    assert who(store) == {AYSHA: "out", BEN: "in"}


def test_a_check_out_leaves_presence_as_it_is_and_is_kept_as_a_movement(store: Store) -> None:
    check = moved(2, AYSHA, "out", "10:30", body={"kind": "check", "action": "doctor"})
    Committer(store).commit([message(moved(1, AYSHA, "in"), check)])
    follow(store)
    assert who(store) == {AYSHA: "in"}
    with store.read() as connection:
        rows = connection.execute(select(tables.movement.c.kind, tables.movement.c.action).order_by("seq")).all()
    assert [tuple(row) for row in rows] == [("sign", None), ("check", "doctor")]


def test_nothing_beyond_a_gap_counts_before_the_gap_is_filled(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(moved(1, AYSHA, "in"), moved(3, AYSHA, "out", "12:00"))])
    follow(store)
    assert who(store) == {AYSHA: "in"}
    committer.commit([message(moved(2, BEN, "in"))])
    follow(store)
    assert who(store) == {AYSHA: "out", BEN: "in"}


def test_a_backlog_that_comes_days_later_does_not_undo_what_happened_since(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(moved(1, AYSHA, "out", "15:30"))])
    follow(store)
    committer.commit([message(moved(1, AYSHA, "in", "08:41", gateway="gw-back"), gateway="gw-back")])
    follow(store)
    assert who(store) == {AYSHA: "out"}


def test_a_time_that_is_corrected_is_taken_again(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(moved(1, AYSHA, "in", "08:00"))])
    early = moved(1, AYSHA, "out", gateway="gw-back", boot=3, up=10.0, at=UNSET_STAMP, clock="free")
    committer.commit([message(early, gateway="gw-back")])
    follow(store)
    # By its stamp of 1970 the sign-out came first.
    assert who(store) == {AYSHA: "in"}
    record = clock_record(2, boot=3, up=100.0, wall="2026-11-20T09:00:00.000Z").replace(
        b'"gw":"gw-canteen"', b'"gw":"gw-back"'
    )
    committer.commit([message(record, gateway="gw-back")])
    assert TimeRepair(store).run() == 1
    follow(store)
    assert who(store) == {AYSHA: "out"}


def test_a_movement_whose_person_is_corrected_leaves_the_one_it_was_not(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"))])
    follow(store)
    with store.write() as connection:
        connection.execute(update(tables.event).values(person=BEN))
        note_revised(connection, connection.execute(select(*tables.event.primary_key)).all())
    follow(store)
    assert who(store) == {BEN: "in"}


@pytest.mark.parametrize("direction", ["sideways", None, ["in"], 7])
def test_a_movement_of_another_form_is_nobodys_and_stops_nothing(store: Store, direction: object) -> None:
    Committer(store).commit([message(moved(1, AYSHA, direction), moved(2, BEN, "in"))])
    follow(store)
    assert who(store) == {BEN: "in"}


class Choking(Presence):
    """A projector with a fault of its own at one person's events."""

    name = "choking"

    def apply(self, connection: Connection, events: Sequence[Held]) -> None:
        if any(held.person == AYSHA for held in events):
            raise KeyError("a fault")
        super().apply(connection, events)


def test_an_event_that_a_projector_cannot_take_costs_that_event_only(store: Store) -> None:
    events = [moved(number, AYSHA if number in {3, 4, 9} else BEN, "in") for number in range(1, 12)]
    Committer(store).commit([message(*events)])
    follow(store, [Choking()])
    with store.read() as connection:
        seqs = connection.scalars(select(tables.movement.c.seq).order_by("seq")).all()
        assert connection.scalar(select(tables.projection.c.upto)) == 11
    assert seqs == [1, 2, 5, 6, 7, 8, 10, 11]
    with store.write() as connection:
        note_revised(connection, connection.execute(select(*tables.event.primary_key)).all())
    follow(store, [Choking()])
    with store.read() as connection:
        assert connection.scalar(select(tables.event_revision.c.id).limit(1)) is None


@pytest.mark.parametrize("seed", range(6))
def test_however_the_events_come_the_outcome_is_the_same_and_a_rebuild_gives_it_again(store: Store, seed: int) -> None:
    draw = random.Random(seed)
    events = [
        moved(number, draw.choice([AYSHA, BEN]), draw.choice(["in", "out"]), f"{7 + number // 6:02}:{number % 6}0")
        for number in range(1, 40)
    ]
    draw.shuffle(events)
    committer = Committer(store)
    while events:
        size = draw.randint(1, 7)
        committer.commit([message(*events[:size])])
        events = events[size:]
        follow(store)
    known = held(store)
    with store.write() as connection:
        rebuild(connection, Presence())
    assert held(store) == []
    follow(store)
    assert held(store) == known


def test_a_projector_that_counts_an_event_twice_would_be_seen(store: Store) -> None:
    class Counting(Presence):
        name = "counting"

        def apply(self, connection, events):  # type: ignore[no-untyped-def]  # a broken twin
            for item in events:
                connection.execute(update(tables.presence).values(since_ms=tables.presence.c.since_ms + 1))
                super().apply(connection, [item])

    Committer(store).commit([message(moved(1, AYSHA, "in"), moved(2, BEN, "in"))])
    follow(store)
    once = held(store)
    follow(store, [Counting()])
    assert held(store) != once


def chosen(seq: int, person: str, direction: str, replaces: str, minute: str, kind: str = "sign") -> bytes:
    return moved(seq, person, direction, minute, body={"replaces": replaces, "kind": kind, "action": "doctor"})


def counted(store: Store) -> list[tuple[int, str, str, bool]]:
    table = tables.movement.c
    with store.read() as connection:
        rows = connection.execute(select(table.seq, table.direction, table.at_ms, table.is_replaced).order_by("seq"))
        return [(row.seq, row.direction, from_ms(row.at_ms).strftime("%H:%M"), row.is_replaced) for row in rows]


def test_a_choice_replaces_the_movement_of_its_tap_and_has_its_time(store: Store) -> None:
    out = moved(2, AYSHA, "out", "10:30", body={"id": "a1"})
    Committer(store).commit([message(moved(1, AYSHA, "in"), out)])
    follow(store)
    assert who(store) == {AYSHA: "out"}
    Committer(store).commit([message(chosen(3, AYSHA, "out", "a1", "10:31", "check"))])
    follow(store)
    assert who(store) == {AYSHA: "in"}, "a check changes nothing, and what it replaced counts no more"
    assert counted(store) == [(1, "in", "08:41", False), (2, "out", "10:30", True), (3, "out", "10:30", False)]


def test_a_choice_names_no_movement_of_somebody_else_or_of_later(store: Store) -> None:
    Committer(store).commit(
        [
            message(
                chosen(1, AYSHA, "out", "a1", "08:00"),
                moved(2, BEN, "in", "08:30", body={"id": "a1"}),
                moved(3, AYSHA, "in", "08:31", body={"id": "a2"}),
                chosen(4, AYSHA, "out", "x" * 40, "08:32"),
            )
        ]
    )
    follow(store)
    assert who(store) == {AYSHA: "out", BEN: "in"}
    assert not any(is_replaced for *_, is_replaced in counted(store))


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_a_time_that_is_corrected_moves_the_choice_too(store: Store, order: tuple[int, int]) -> None:
    out = moved(2, AYSHA, "out", "10:30", body={"id": "a1"})
    Committer(store).commit([message(moved(1, AYSHA, "in"), out, chosen(3, AYSHA, "out", "a1", "10:31"))])
    follow(store)
    event = tables.event
    with store.write() as connection:
        number = connection.scalar(select(event.c.gateway).limit(1))
        for seq in order:
            connection.execute(update(event).where(event.c.seq == seq).values(at_ms=event.c.at_ms + 3_600_000))
            note_revised(connection, [(number, "5f1c9a02", seq)])
    follow(store)
    assert counted(store) == [(1, "in", "08:41", False), (2, "out", "11:30", True), (3, "out", "11:30", False)]
    before = held(store)
    with store.write() as connection:
        rebuild(connection, Presence())
    follow(store)
    assert held(store) == before
