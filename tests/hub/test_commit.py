from __future__ import annotations

import random

import pytest
from sqlalchemy import select

from gateway.access.event import FIRST_PREV
from gateway.hub.fleet.enrolment import enrol, revoke
from gateway.hub.ingest import commit
from gateway.hub.ingest.commit import Committer
from gateway.hub.ingest.parse import Incoming
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from tests.hub.samples import EPOCH, GATEWAY, SITE, message, tap

BOTH_DATABASES = True
KEY = "ab" * 16


def _seqs(store: Store) -> list[int]:
    with store.read() as connection:
        return sorted(connection.scalars(select(tables.event.c.seq)))


def _faults(store: Store) -> list[tuple[int | None, str]]:
    with store.read() as connection:
        rows = connection.execute(select(tables.quarantine.c.seq, tables.quarantine.c.why))
        return [(row.seq, row.why) for row in rows]


def test_events_are_stored_with_their_exact_bytes_and_the_watermark_follows(store: Store) -> None:
    raws = [tap(seq, key=KEY) for seq in (1, 2, 3)]
    done = Committer(store).commit([message(*raws)])
    assert (done.fresh, done.again, done.quarantined) == (3, 0, 0)
    ((topics, mark),) = done.watermarks
    assert topics.ack == f"tapgate/v1/{SITE}/{GATEWAY}/ack"
    assert (mark.epoch, mark.upto, mark.have) == (EPOCH, 3, [])
    with store.read() as connection:
        stored = connection.execute(select(tables.event).order_by(tables.event.c.seq)).all()
    assert [bytes(row.raw) for row in stored] == raws
    assert stored[0].at_ms == 1_795_334_461_000 - 60_000
    assert not stored[0].historical


def test_what_is_sent_again_is_counted_once_and_acknowledged_again(store: Store) -> None:
    committer = Committer(store)
    batch = [message(tap(1), tap(2))]
    committer.commit(batch)
    done = Committer(store).commit([*batch, message(tap(2), tap(3))])
    assert (done.fresh, done.again) == (1, 3)
    assert [mark.upto for _, mark in done.watermarks] == [3]
    assert _seqs(store) == [1, 2, 3]
    assert _faults(store) == []


def test_events_in_any_order_end_in_the_same_watermark(store: Store) -> None:
    draw = random.Random(5)
    raws = [tap(seq) for seq in range(1, 301)]
    draw.shuffle(raws)
    committer = Committer(store)
    last = None
    for at in range(0, 300, 7):
        done = committer.commit([message(*raws[at : at + 7])])
        ((_, last),) = done.watermarks
    assert last is not None
    assert (last.upto, last.have) == (300, [])


def test_a_gap_is_told_as_the_ranges_that_are_held_above_it(store: Store) -> None:
    done = Committer(store).commit([message(tap(1), tap(4), tap(5), tap(9))])
    ((_, mark),) = done.watermarks
    assert (mark.upto, mark.have) == (1, [(4, 5), (9, 9)])


def test_one_bad_event_is_quarantined_counted_and_blocks_nobody(store: Store) -> None:
    bad = tap(2).replace(b'"kind":"tap"', b'"kind":"dance"')
    done = Committer(store).commit([message(tap(1), bad, tap(3))])
    assert (done.fresh, done.quarantined) == (2, 1)
    ((_, mark),) = done.watermarks
    assert mark.upto == 3
    assert [item.seq for item in mark.rejected] == [2]
    with store.read() as connection:
        assert bytes(connection.scalar(select(tables.quarantine.c.payload)) or b"") == bad


def test_a_message_that_is_broken_in_the_middle_still_gives_its_whole_events(store: Store) -> None:
    whole = message(tap(1), tap(2), tap(3))
    broken = Incoming(whole.topic, whole.payload.replace(b'"boot":1', b'"boot":@', 2).replace(b"@", b"1", 1), 0)
    done = Committer(store).commit([broken])
    assert (done.fresh, done.quarantined) == (2, 1)
    assert _seqs(store) == [1, 3]
    assert [mark.upto for _, mark in done.watermarks] == [3]


@pytest.mark.parametrize("payload", [b"", b"[", b"null", b"\xff\x00", b'{"v":1}', b"[1,2]", b'[{"v":1'])
def test_rubbish_is_kept_once_with_its_bytes_however_often_it_comes(store: Store, payload: bytes) -> None:
    committer = Committer(store)
    incoming = Incoming(f"tapgate/v1/{SITE}/{GATEWAY}/taps", payload, 0)
    first = committer.commit([incoming, message(tap(1))])
    committer.commit([incoming])
    assert first.fresh == 1
    with store.read() as connection:
        rows = connection.execute(select(tables.quarantine.c["count"], tables.quarantine.c.payload)).all()
    assert rows
    assert all(count == 2 for count, _ in rows)


def test_an_event_of_another_gateway_than_its_topic_is_refused(store: Store) -> None:
    done = Committer(store).commit([message(tap(1, gateway="gw-gate"), tap(2))])
    assert _seqs(store) == [2]
    assert "another gateway" in _faults(store)[0][1]
    assert [mark.upto for _, mark in done.watermarks] == [2]


def test_a_site_that_this_hub_does_not_have_gets_no_watermark(store: Store) -> None:
    done = Committer(store).commit([message(tap(1), site="elsewhere")])
    assert done.watermarks == []
    assert "not enrolled" in _faults(store)[0][1]


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "yesterday"},
        {"at": "2026-11-22T08:31:04"},
        {"point": "x" * 64},
        {"point": "a\0b"},
        {"person": "Ann Smith"},
        {"seq": 1 << 62 | 1},
        {"epoch": "a/b"},
    ],
)
def test_an_event_with_an_impossible_field_is_quarantined(store: Store, fields: dict[str, object]) -> None:
    done = Committer(store).commit([message(tap(1, **fields))])
    assert (done.fresh, done.quarantined) == (0, 1)


def test_other_bytes_under_a_used_number_are_kept_as_evidence_and_change_nothing(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(tap(1))])
    done = committer.commit([message(tap(1, reason="ok"))])
    assert (done.fresh, done.quarantined) == (0, 1)
    assert "other bytes" in _faults(store)[0][1]
    with store.read() as connection:
        assert connection.scalar(select(tables.event.c.reason)) == "card_unknown"


def test_backlog_is_marked_historical_and_leaves_the_live_time_alone(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(tap(100))])
    with store.read() as connection:
        live = connection.scalar(select(tables.gateway.c.live_ms))
    committer.commit([message(tap(3000), last="backlog")])
    with store.read() as connection:
        assert connection.scalar(select(tables.gateway.c.live_ms)) == live
        rows = connection.execute(select(tables.event.c.seq, tables.event.c.historical))
        assert {row.seq: row.historical for row in rows} == {100: False, 3000: True}


def test_two_epochs_of_one_gateway_have_marks_of_their_own(store: Store) -> None:
    done = Committer(store).commit([message(tap(7, epoch="old")), message(tap(1, epoch="new"))])
    assert [(mark.epoch, mark.upto) for _, mark in done.watermarks] == [("old", 0), ("new", 1)]


def test_the_chain_field_does_not_matter_to_the_key(store: Store) -> None:
    done = Committer(store).commit([message(tap(1, prev=FIRST_PREV)), message(tap(2, prev="f" * 32))])
    assert done.fresh == 2


def test_a_message_that_the_database_refuses_is_quarantined_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = Committer(store)
    insert = committer._writer.insert

    def refuse(connection: object, rows: list[tuple[object, ...]]) -> int:
        if any(row[2] == 2 for row in rows):
            raise OverflowError("Python int too large")
        return insert(connection, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(committer._writer, "insert", refuse)
    done = committer.commit([message(tap(1)), message(tap(2)), message(tap(3))])
    assert _seqs(store) == [1, 3]
    assert (done.fresh, done.quarantined) == (2, 1)
    assert done.watermarks[-1][1].upto == 3


def test_more_events_than_one_copy_needs_are_stored_whole_and_again_once(store: Store) -> None:
    raws = [tap(seq, key=KEY, reader=f"tab\t and \\ {seq}") for seq in range(1, 501)]
    committer = Committer(store)
    assert committer.commit([message(*raws[:300])]).fresh == 300
    again = committer.commit([message(*raws[100:])])
    assert (again.fresh, again.again, again.quarantined) == (200, 200, 0)
    event = tables.event
    with store.read() as connection:
        rows = connection.execute(select(event.c.raw, event.c.reader).order_by(event.c.seq)).all()
    assert [bytes(row.raw) for row in rows] == raws
    assert rows[0].reader == "tab\t and \\ 1"


def test_a_gateway_that_is_not_enrolled_is_heard_by_nobody_and_its_bytes_are_kept(store: Store) -> None:
    with store.write() as connection:
        connection.execute(tables.site.update().values(trust_unenrolled=False))
    committer = Committer(store)
    stranger = committer.commit([message(tap(1, gateway="gw-stranger"), gateway="gw-stranger")])
    assert (stranger.fresh, stranger.quarantined, stranger.watermarks) == (0, 1, [])
    with store.write() as connection:
        assert enrol(connection, SITE, "gw-canteen", actor="test")
    assert committer.commit([message(tap(1))]).fresh == 1
    with store.read() as connection:
        assert connection.scalars(select(tables.gateway.c.name)).all() == ["gw-canteen"]
        assert "not enrolled" in str(connection.scalar(select(tables.quarantine.c.why)))


def test_a_revoked_gateway_is_taken_in_no_more_within_seconds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.write() as connection:
        connection.execute(tables.site.update().values(trust_unenrolled=False))
        enrol(connection, SITE, "gw-canteen", actor="test")
    committer = Committer(store)
    assert committer.commit([message(tap(1))]).fresh == 1
    with store.write() as connection:
        revoke(connection, SITE, "gw-canteen", actor="test")
    monkeypatch.setattr(commit, "_ENROLMENT_SECONDS", 0.0)
    refused = committer.commit([message(tap(2))])
    assert (refused.fresh, refused.quarantined) == (0, 1)
