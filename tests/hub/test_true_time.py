from __future__ import annotations

from datetime import UTC, datetime

from msgspec import UNSET
from sqlalchemy import select

from gateway.hub.fleet.true_time import TimeRepair
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.times import from_ms, to_ms
from tests.hub.samples import message, tap

BOTH_DATABASES = True
UNSET_STAMP = "1970-01-01T00:01:00.000Z"


def clock_record(seq: int, *, boot: int, up: float, wall: str, synchronised: bool = True) -> bytes:
    data = {"boot_id": f"machine-{boot}", "up": up, "wall": wall, "error_ms": 20, "synchronised": synchronised}
    return tap(
        seq,
        kind="clock",
        boot=boot,
        up=up,
        at=wall,
        clock="ntp" if synchronised else "free",
        data=data,
        card=UNSET,
        person=UNSET,
        decision=UNSET,
        reason=UNSET,
    )


def times(store: Store) -> dict[int, tuple[str, str, int | None]]:
    event = tables.event
    with store.read() as connection:
        rows = connection.execute(select(event.c.seq, event.c.at_ms, event.c.at_how, event.c.at_error_ms))
        return {row.seq: (from_ms(row.at_ms).isoformat(), row.at_how, row.at_error_ms) for row in rows}


def test_milliseconds_and_moments_are_the_same_thing() -> None:
    moment = datetime(2026, 11, 22, 8, 31, 4, 123_000, UTC)
    assert from_ms(to_ms(moment)) == moment
    assert to_ms(datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)) == -1


def test_taps_of_a_clock_that_started_in_1970_get_their_time_when_the_record_comes(store: Store) -> None:
    committer = Committer(store)
    raws = [tap(seq, boot=3, up=float(seq * 10), at=UNSET_STAMP, clock="free") for seq in (1, 2)]
    committer.commit([message(*raws)])
    repair = TimeRepair(store)
    repair.run()
    assert {how for _, how, _ in times(store).values()} == {"unknown"}
    committer.commit([message(clock_record(3, boot=3, up=100.0, wall="2026-11-22T08:30:00.000Z"))])
    assert repair.run() == 2
    found = times(store)
    assert found[1] == ("2026-11-22T08:28:30+00:00", "repaired", 29)
    assert found[2] == ("2026-11-22T08:28:40+00:00", "repaired", 28)
    assert repair.run() == 0
    with store.read() as connection:
        stored = connection.scalar(select(tables.event.c.raw).where(tables.event.c.seq == 1))
    assert bytes(stored or b"") == raws[0]


def test_a_start_that_never_heard_the_time_is_bounded_by_its_neighbours(store: Store) -> None:
    committer = Committer(store)
    committer.commit(
        [
            message(
                tap(1, boot=1, at="2026-11-22T08:00:00.000Z"),
                tap(2, boot=2, up=5.0, at=UNSET_STAMP, clock="free"),
                tap(3, boot=2, up=6.0, at=UNSET_STAMP, clock="free"),
            )
        ]
    )
    repair = TimeRepair(store)
    repair.run()
    assert times(store)[2] == ("2026-11-22T08:00:00+00:00", "bounded", None)
    committer.commit([message(tap(4, boot=3, at="2026-11-22T08:10:00.000Z"))])
    repair.run()
    assert times(store)[3] == ("2026-11-22T08:00:00+00:00", "bounded", 600_000)


def test_events_of_a_set_clock_are_left_as_they_are(store: Store) -> None:
    Committer(store).commit([message(tap(1), tap(2))])
    assert TimeRepair(store).run() == 0
    assert {how for _, how, _ in times(store).values()} == {"set"}
