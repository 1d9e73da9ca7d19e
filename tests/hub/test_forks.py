"""The hub's word is about bytes: what does not follow from what is held is not acknowledged."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, update

from gateway.access.event import FIRST_PREV, Was
from gateway.hub.fleet.chain import list_faults, verify_all
from gateway.hub.fleet.gateways import note_state
from gateway.hub.fleet.welcome import judge_birth
from gateway.hub.ingest import marks
from gateway.hub.ingest import quarantine as quarantine_module
from gateway.hub.ingest.commit import Committer
from gateway.hub.ingest.links import link_of
from gateway.hub.ingest.marks import MAX_NEW_EPOCHS
from gateway.hub.ingest.parse import Incoming
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.messages import GatewayState, LinkPoint
from tests.hub.samples import EPOCH, GATEWAY, SITE, message, tap

BOTH_DATABASES = True
OTHER = "0badcafe"


def chain(first: int, last: int, prev: str = FIRST_PREV, **fields: object) -> list[bytes]:
    """Make events that follow from one another."""
    raws: list[bytes] = []
    for seq in range(first, last + 1):
        raws.append(tap(seq, prev=prev, **fields))
        prev = link_of(raws[-1])
    return raws


def _strict(store: Store) -> None:
    # As the welcome makes it for a gateway that names its witness.
    with store.write() as connection:
        connection.execute(update(tables.mark).values(strict=True))


def _counts(store: Store) -> tuple[int, int]:
    with store.read() as connection:
        events = connection.scalar(select(func.count()).select_from(tables.event)) or 0
        return events, connection.scalar(select(func.count()).select_from(tables.quarantine)) or 0


def test_the_watermark_carries_the_link_of_what_is_held(store: Store) -> None:
    raws = chain(1, 5)
    committer = Committer(store)
    assert committer.commit([message(*raws[:2])]).watermarks[0][1].link == link_of(raws[1])
    assert committer.commit([message(*raws[3:])]).watermarks[0][1].link == link_of(raws[1])
    # The gap closes over what came before.
    assert committer.commit([message(raws[2])]).watermarks[0][1].link == link_of(raws[4])


def test_events_of_another_history_move_no_watermark(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(*chain(1, 10))])
    _strict(store)
    twin = chain(1, 14, reason="ok")
    done = committer.commit([message(*twin[4:])])
    assert [mark.upto for _, mark in done.watermarks] == [10]
    assert (done.fresh, done.quarantined) == (0, 10)
    with store.read() as connection:
        assert connection.execute(select(tables.mark.c.upto, tables.mark.c.forked)).one() == (10, 5)
    # The history that is held goes on.
    done = committer.commit([message(*chain(1, 12)[10:])])
    assert [mark.upto for _, mark in done.watermarks] == [12]


@pytest.mark.parametrize("split", [1, 3, 6])
def test_a_chain_in_any_pieces_is_taken_whole(store: Store, split: int) -> None:
    committer = Committer(store)
    raws = chain(1, 30)
    committer.commit([message(raws[0])])
    _strict(store)
    pieces = [raws[place : place + split] for place in range(1, 30, split)]
    for piece in [*pieces[1::2], *pieces[0::2]]:
        committer.commit([message(*piece)])
    assert _counts(store) == (30, 0)


def test_after_an_event_that_its_card_lost_the_chain_goes_on(store: Store) -> None:
    committer = Committer(store)
    raws = chain(1, 4)
    committer.commit([message(*raws[:2])])
    _strict(store)
    lost = tap(3, prev=link_of(raws[1]), kind="system", system={"what": "event_lost", "why": "x"})
    done = committer.commit([message(lost, raws[3])])
    assert [mark.upto for _, mark in done.watermarks] == [4]
    # Sent again as lost, the one that is held stands and nothing is wrong.
    again = tap(2, prev=link_of(raws[0]), kind="system", system={"what": "event_lost", "why": "x"})
    assert committer.commit([message(again)]).quarantined == 0


@pytest.mark.parametrize("moved_first", [True, False])
def test_an_event_and_its_moved_copy_are_counted_once_in_either_order(store: Store, moved_first: bool) -> None:
    first = chain(1, 3)
    copies, prev = [], FIRST_PREV
    for seq in (1, 2, 3):
        copies.append(tap(seq, epoch=OTHER, prev=prev, was=Was(EPOCH, seq)))
        prev = link_of(copies[-1])
    batches = [message(*copies, last="backlog"), message(*first)]
    for batch in batches if moved_first else reversed(batches):
        (done,) = [Committer(store).commit([batch])]
        assert [mark.upto for _, mark in done.watermarks] == [3]
    assert _counts(store) == (3, 0)
    # Sent again, both are still the same.
    done = Committer(store).commit(batches)
    assert (done.fresh, done.quarantined) == (0, 0)
    verify_all(store)
    with store.read() as connection:
        assert list_faults(connection) == []


def test_two_different_events_that_had_one_number_are_both_counted(store: Store) -> None:
    one = tap(1, epoch=OTHER, was=Was(EPOCH, 7), reason="ok")
    two = tap(1, epoch="feedbeef", was=Was(EPOCH, 7), reason="card_lost")
    assert Committer(store).commit([message(one, last="backlog"), message(two, last="backlog")]).fresh == 2


def test_a_flood_of_rubbish_is_kept_within_the_quota_and_then_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_module, "MAX_ROWS", 20)
    committer = Committer(store)
    topic = f"tapgate/v1/{SITE}/{GATEWAY}/taps"
    for number in range(50):
        committer.commit([Incoming(topic, b"rubbish %d" % number, 0)])
    with store.read() as connection:
        used = connection.execute(select(tables.quarantine_use)).one()
    assert (used.scope, used.rows, used.dropped) == (f"{SITE}/{GATEWAY}", 20, 30)
    assert _counts(store) == (0, 20)
    # An event that cannot be kept is not acknowledged; another gateway has a quota of its own.
    done = committer.commit([message(tap(1, point="x" * 64)), message(tap(1, gateway="gw-gate"), gateway="gw-gate")])
    assert [(topics.gateway, mark.upto) for topics, mark in done.watermarks] == [("gw-gate", 1)]


def test_large_rubbish_is_bounded_by_bytes(store: Store) -> None:
    topic = f"tapgate/v1/{SITE}/{GATEWAY}/taps"
    Committer(store).commit([Incoming(topic, bytes([number]) * (1 << 20), 0) for number in range(200)])
    with store.read() as connection:
        kept = connection.scalar(select(func.sum(func.length(tables.quarantine.c.payload))))
    assert 0 < int(kept or 0) <= quarantine_module.MAX_BYTES


def test_a_gateway_that_begins_a_journal_with_every_event_is_stopped(store: Store) -> None:
    committer = Committer(store)
    for number in range(MAX_NEW_EPOCHS + 30):
        committer.commit([message(tap(1, epoch=f"{number:08x}"))])
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.mark)) == MAX_NEW_EPOCHS
    done = committer.commit([message(tap(2, epoch=f"{1:08x}"))])
    assert [mark.upto for _, mark in done.watermarks] == [2]


def test_a_new_card_and_a_hub_from_nothing_are_no_fork(store: Store) -> None:
    with store.write() as connection:
        birth = GatewayState("ready", 3, EPOCH, 40, 40, witness="aa" * 16, before=["bb" * 16])
        number = note_state(connection, SITE, GATEWAY, birth, 0)
        assert number is not None
        assert judge_birth(connection, number, birth, 0).word == "go_on"
        fresh = GatewayState("ready", 1, OTHER, 2, 0, witness="cc" * 16)
        assert judge_birth(connection, number, fresh, 1).word == "go_on"


def test_offline_boots_in_between_are_no_fork_and_a_power_cut_that_took_events_is_one(store: Store) -> None:
    raws = chain(1, 10)
    Committer(store).commit([message(*raws)])
    with store.write() as connection:
        number = connection.scalar(select(tables.gateway.c.id)) or 0
        link = [LinkPoint(10, link_of(raws[9]))]
        first = GatewayState("ready", 1, EPOCH, 10, 0, witness="a1" * 16, links=link)
        assert judge_birth(connection, number, first, 0).word == "go_on"
        later = GatewayState("ready", 4, EPOCH, 10, 0, witness="a4" * 16, before=["a3" * 16, "a2" * 16, "a1" * 16])
        assert judge_birth(connection, number, later, 1).word == "go_on"
        robbed = GatewayState(
            "ready", 5, EPOCH, 8, 0, witness="a5" * 16, before=["a4" * 16], links=[LinkPoint(8, link_of(raws[7]))]
        )
        verdict = judge_birth(connection, number, robbed, 2)
        assert (verdict.word, verdict.at) == ("fork", 8)


def test_an_old_will_stays_out_of_date_and_an_old_image_is_heard(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(tables.gateway).values(site=SITE, name=GATEWAY, boot=17, state="ready"))
        assert note_state(connection, SITE, GATEWAY, GatewayState("lost", 3), 0) is None
        assert note_state(connection, SITE, GATEWAY, GatewayState("ready", 3, EPOCH), 0) is None
        assert note_state(connection, SITE, GATEWAY, GatewayState("ready", 3, EPOCH, witness="aa" * 16), 0) is not None


def test_twenty_thousand_forged_epochs_are_bounded(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    marks._warned_ms.clear()
    committer = Committer(store)
    forged = [tap(1, epoch=f"{number:08x}", gateway="gw-forger") for number in range(20_000)]
    messages = [message(*forged[at : at + 50], gateway="gw-forger") for at in range(0, len(forged), 50)]
    for at in range(0, len(messages), 100):
        committer.commit(messages[at : at + 100])
    assert committer.commit([message(tap(1))]).fresh == 1
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.mark)) == MAX_NEW_EPOCHS + 1
    assert len([record for record in caplog.records if "journals within a day" in record.getMessage()]) == 1


def test_a_fork_begins_before_what_has_not_arrived_yet(store: Store) -> None:
    # Seen with two machines of one id on a busy machine: live taps overtook the backlog, the card that went on last
    # began a new epoch after 7, and 4 to 6 were in no epoch any more.
    raws = chain(1, 12)
    Committer(store).commit([message(*raws[:3], raws[6])])
    with store.write() as connection:
        number = connection.scalar(select(tables.gateway.c.id))
        points = [LinkPoint(seq, link_of(raws[seq - 1])) for seq in (3, 7, 9)]
        births = [
            GatewayState("ready", boot=boot, epoch=EPOCH, head=12, witness=str(boot) * 32, before=before, links=points)
            for boot, before in ((1, []), (2, ["7" * 32]))
        ]
        assert number is not None
        assert judge_birth(connection, number, births[0], 0).word == "go_on"
        verdict = judge_birth(connection, number, births[1], 1)
    assert (verdict.word, verdict.at) == ("fork", 3)
    moved, prev = [], FIRST_PREV
    for seq, old in enumerate(range(4, 13), 1):
        at = f"2026-11-22T08:00:{old:02d}.000Z"
        moved.append(tap(seq, epoch=OTHER, prev=prev, at=at, was=Was(EPOCH, old)))
        prev = link_of(moved[-1])
    Committer(store).commit([message(*moved, last="backlog")])
    assert _counts(store)[0] == 12
