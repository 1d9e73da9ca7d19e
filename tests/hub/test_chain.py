from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from gateway.access.event import FIRST_PREV
from gateway.errors import RefusedError
from gateway.hub.fleet.chain import (
    ChainFault,
    accept_journal,
    link_of,
    list_faults,
    list_new_journals,
    verify_all,
)
from gateway.hub.ingest.commit import Committer
from gateway.hub.ingest.marks import skip_lost
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.journal.chain import link_of as journal_link
from tests.hub.samples import EPOCH, message, tap

BOTH_DATABASES = True


def chained(count: int, *, epoch: str = EPOCH, first: int = 1, prev: str = FIRST_PREV) -> list[bytes]:
    raws = []
    for seq in range(first, first + count):
        raws.append(tap(seq, epoch=epoch, prev=prev))
        prev = link_of(raws[-1])
    return raws


def faults(store: Store) -> list[ChainFault]:
    verify_all(store)
    with store.read() as connection:
        return sorted((fault for _, _, fault in list_faults(connection)), key=lambda fault: fault.first)


def test_hub_and_journal_mean_the_same_link() -> None:
    raw = tap(1)
    assert link_of(raw) == journal_link(raw).hex()


def test_a_whole_chain_is_followed_once_and_has_no_fault(store: Store) -> None:
    raws = chained(2500)
    committer = Committer(store)
    committer.commit([message(*raws[:1200])])
    assert verify_all(store) == 1200
    committer.commit([message(*raws[1200:])])
    assert verify_all(store) == 1300
    assert verify_all(store) == 0
    assert faults(store) == []


@pytest.mark.parametrize("place", [1, 2, 499, 999])
def test_an_edited_event_is_named_by_its_number(store: Store, place: int) -> None:
    raws = chained(1000)
    raws[place - 1] = raws[place - 1].replace(b'"denied"', b'"granted"')
    Committer(store).commit([message(*raws)])
    assert faults(store) == [ChainFault("broken", place, place + 1)]


def test_reordered_events_are_named(store: Store) -> None:
    raws = chained(10)
    swapped = [raws[3].replace(b'"seq":4', b'"seq":5'), raws[4].replace(b'"seq":5', b'"seq":4')]
    Committer(store).commit([message(*raws[:3], *swapped, *raws[5:])])
    assert [(fault.first, fault.last) for fault in faults(store)] == [(3, 4), (4, 5), (5, 6)]


def test_a_row_deleted_at_the_hub_is_named(store: Store) -> None:
    Committer(store).commit([message(*chained(50))])
    with store.write() as connection:
        connection.execute(delete(tables.event).where(tables.event.c.seq.in_([7, 8, 9])))
    assert faults(store) == [ChainFault("missing", 7, 9)]


def test_a_row_edited_at_the_hub_is_named(store: Store) -> None:
    Committer(store).commit([message(*chained(50))])
    with store.write() as connection:
        edited = tap(20, reason="ok")
        connection.execute(update(tables.event).where(tables.event.c.seq == 20).values(raw=edited))
    assert ChainFault("broken", 20, 21) in faults(store)


def test_an_event_in_quarantine_is_still_a_link_of_the_chain(store: Store) -> None:
    raws = chained(2)
    odd = tap(3, prev=link_of(raws[1])).replace(b'"kind":"tap"', b'"kind":"dance"')
    raws += [odd, *chained(3, first=4, prev=link_of(odd))]
    done = Committer(store).commit([message(*raws)])
    assert done.quarantined == 1
    assert faults(store) == []


def test_nothing_is_followed_past_a_gap_until_it_closes(store: Store) -> None:
    raws = chained(20)
    committer = Committer(store)
    committer.commit([message(*raws[:5], *raws[8:])])
    assert verify_all(store) == 5
    committer.commit([message(*raws[5:8])])
    assert verify_all(store) == 15
    assert faults(store) == []


def test_what_neither_hub_nor_gateway_has_frees_the_mark_and_is_named_missing(store: Store) -> None:
    raws = chained(20)
    committer = Committer(store)
    committer.commit([message(*raws[:5])])
    committer.commit([message(*raws[12:])])
    with store.write() as connection:
        number = connection.scalar(select(tables.gateway.c.id))
        assert number is not None
        assert skip_lost(connection, number, EPOCH, 13, 0) == (6, 12)
        assert skip_lost(connection, number, EPOCH, 13, 0) is None
        assert connection.scalar(select(tables.mark.c.upto)) == 20
    assert faults(store) == [ChainFault("missing", 6, 12)]


def test_the_first_journal_is_taken_and_a_second_waits_for_somebody_to_accept_it(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(*chained(3))])
    with store.read() as connection:
        assert list_new_journals(connection) == []
    committer.commit([message(*chained(3, epoch="new"))])
    with store.read() as connection:
        (waiting,) = list_new_journals(connection)
    assert waiting.epoch == "new"
    accept_journal(store, waiting.gateway_id, "new", "person:head")
    with pytest.raises(RefusedError):
        accept_journal(store, waiting.gateway_id, "new", "person:head")
    with store.read() as connection:
        assert list_new_journals(connection) == []
        assert connection.scalar(select(tables.audit.c.operation)) == "journal_accept"
