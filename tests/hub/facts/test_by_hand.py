"""Movements that no gateway recorded: by the office, and by the end of the day."""

from __future__ import annotations

from datetime import UTC, datetime, time

import msgspec
import pytest
from sqlalchemy import insert, select

from gateway.config import RegisterSettings
from gateway.errors import RefusedError
from gateway.hub.facts.by_hand import find_overdue, note_by_hand, sign_out, withdraw_by_hand
from gateway.hub.facts.presence import Presence
from gateway.hub.facts.runner import Facts, rebuild
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit, verify
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.times import to_ms
from tests.hub.facts.test_presence import AYSHA, BEN, moved, who
from tests.hub.samples import SITE, follow, message

BOTH_DATABASES = True


def at(clock: str, day: int = 20) -> int:
    return to_ms(datetime.fromisoformat(f"2026-11-{day:02d}T{clock}:00+00:00").astimezone(UTC))


def by_hand(store: Store, person: str, direction: str, at_ms: int, reason: str = "forgot the card") -> int:
    with store.write() as connection:
        audit = Audit("person:office", SITE, at("20:00"), reason=reason or None)
        note_by_hand(connection, SITE, person, direction, at_ms, audit)
        audit.write(connection)
        return int(connection.scalar(select(tables.hand_movement.c.id).order_by(tables.hand_movement.c.id.desc())) or 0)


def withdraw(store: Store, number: int) -> None:
    with store.write() as connection:
        audit = Audit("person:office", SITE, at("20:01"))
        withdraw_by_hand(connection, number, audit)
        audit.write(connection)


def test_the_newest_movement_counts_whether_a_gateway_or_the_office_made_it(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"))])
    follow(store)
    out = by_hand(store, AYSHA, "out", at("12:00"))
    by_hand(store, BEN, "in", at("09:00"))
    assert who(store) == {AYSHA: "out", BEN: "in"}
    withdraw(store, out)
    assert who(store) == {AYSHA: "in", BEN: "in"}
    by_hand(store, AYSHA, "out", at("08:00"))
    assert who(store) == {AYSHA: "in", BEN: "in"}, "what was before the newest changes nothing"
    with store.read() as connection:
        assert all(chain.fault is None for chain in verify(connection))


def test_a_rebuild_keeps_what_people_entered(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"))])
    follow(store)
    by_hand(store, AYSHA, "out", at("12:00"))
    by_hand(store, BEN, "in", at("09:00"))
    with store.write() as connection:
        rebuild(connection, Presence())
    assert who(store) == {AYSHA: "out", BEN: "in"}
    follow(store)
    assert who(store) == {AYSHA: "out", BEN: "in"}


@pytest.mark.parametrize(
    ("at_ms", "reason", "sentence"),
    [
        (at("12:00"), "", "Say why"),
        (at("20:02"), "late", "may not lie ahead"),
        (at("12:00") - 40 * 86_400_000, "late", "more than 31 days"),
    ],
)
def test_a_movement_without_a_reason_or_of_another_month_is_refused(
    store: Store, at_ms: int, reason: str, sentence: str
) -> None:
    with pytest.raises(RefusedError, match=sentence):
        by_hand(store, AYSHA, "in", at_ms, reason)
    assert who(store) == {}


def test_what_is_withdrawn_is_withdrawn_once(store: Store) -> None:
    number = by_hand(store, AYSHA, "in", at("09:00"))
    withdraw(store, number)
    with pytest.raises(RefusedError, match="withdrawn already"):
        withdraw(store, number)


def end_days_at(store: Store, clock: time | None) -> None:
    settings = msgspec.to_builtins(RegisterSettings(sign_out_at=clock))
    with store.write() as connection:
        connection.execute(tables.register_settings.delete())
        connection.execute(insert(tables.register_settings).values(site=SITE, settings=settings))


def sweep(store: Store, at_ms: int) -> int:
    with store.write() as connection:
        overdue = find_overdue(connection, at_ms)
        sign_out(connection, overdue, at_ms)
    return len(overdue)


def test_at_the_end_of_the_day_whoever_is_in_is_signed_out_once_and_marked(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"), moved(2, BEN, "in", "18:30"))])
    follow(store)
    end_days_at(store, time(18, 0))
    assert sweep(store, at("17:59")) == 0
    assert sweep(store, at("18:00")) == 1
    assert sweep(store, at("18:01")) == 0
    assert who(store) == {AYSHA: "out", BEN: "in"}, "who came in the evening stays"
    with store.read() as connection:
        row = connection.execute(select(tables.presence).where(tables.presence.c.person == AYSHA)).one()
    assert (row.automatic, row.since_ms, row.gateway) == (True, at("18:00"), None)
    assert sweep(store, at("07:00", 21)) == 0
    assert sweep(store, at("18:00", 21)) == 1, "and leaves with the next day"


def test_a_hub_that_was_off_at_that_time_makes_it_up_with_the_time_that_it_was(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"))])
    follow(store)
    end_days_at(store, time(18, 0))
    assert sweep(store, at("07:30", 21)) == 1
    with store.read() as connection:
        assert connection.scalar(select(tables.hand_movement.c.at_ms)) == at("18:00")


def test_without_that_setting_nobody_is_signed_out(store: Store) -> None:
    Committer(store).commit([message(moved(1, AYSHA, "in"))])
    follow(store)
    end_days_at(store, None)
    assert sweep(store, at("23:00")) == 0
    assert who(store) == {AYSHA: "in"}


def test_the_running_hub_does_it_by_itself(store: Store) -> None:
    end_days_at(store, time(0, 0))
    with store.write() as connection:
        audit = Audit("person:office", SITE, now_ms(), reason="forgot the card")
        note_by_hand(connection, SITE, AYSHA, "in", audit.at_ms - 86_400_000, audit)
    assert who(store) == {AYSHA: "in"}
    Facts(store).turn()
    assert who(store) == {AYSHA: "out"}
