from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, open_store
from gateway.hub.sync.apply import Applier
from gateway.hub.sync.feed import Feed, gather
from gateway.hub.sync.guard import Limits, judge
from gateway.hub.sync.known import load_known
from gateway.hub.sync.operations import Plan, plan_hash
from gateway.hub.sync.plan import MISSING_MS, make_plan
from gateway.mis.base import Capabilities, CardClaim, Complete, FeedItem, Gone, PersonFields, Record, Unreadable
from tests.hub.samples import SITE, add_site

BOTH_DATABASES = True
CAN = Capabilities(removes_staff=True)


def claim(name: str) -> CardClaim:
    return CardClaim(hashlib.blake2b(name.encode(), digest_size=16).hexdigest(), name[-4:].upper(), "uid")


def record(key: str, name: str = "", *cards: str, stable: str | None = None, role: str = "student") -> Record:
    given_name, _, family_name = (name or f"Given{key} Family{key}").partition(" ")
    claims = tuple(claim(card) for card in cards)
    return Record(key, PersonFields(role, given_name, family_name, ("7B",)), claims, f"line {key}", stable)


def in_group(person: Record, group: str) -> Record:
    return replace(person, fields=msgspec.structs.replace(person.fields, groups=(group,)))


def feed_of(*items: FeedItem, complete: bool = True) -> Feed:
    return gather([*items, Complete()] if complete else items)


class Sync:
    """One source at a real store, driven without files and schedules."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.at_ms = 1_000
        with store.write() as connection:
            row = {"site": SITE, "name": "mis", "kind": "csv", "options": {}}
            self.source: int = connection.scalar(insert(tables.source).values(row).returning(tables.source.c.id))

    def plan(self, *items: FeedItem, complete: bool = True) -> Plan:
        with self.store.read() as connection:
            return make_plan(
                feed_of(*items, complete=complete), load_known(connection, SITE, self.source), CAN, self.at_ms
            )

    def apply(self, *items: FeedItem, complete: bool = True) -> Plan:
        plan = self.plan(*items, complete=complete)
        self.at_ms += 1_000
        with self.store.write() as connection:
            audit = Audit(f"source:{self.source}", SITE, self.at_ms)
            Applier(connection, SITE, self.source, audit, "active").apply(plan.operations)
        return plan

    def people(self) -> dict[str, tuple[str, bool]]:
        person = tables.person
        with self.store.read() as connection:
            rows = connection.execute(select(person))
            return {row.person_key: (f"{row.given_name} {row.family_name}", row.state) for row in rows}

    def cards(self) -> dict[str, tuple[str | None, str]]:
        card, person = tables.card, tables.person
        with self.store.read() as connection:
            rows = connection.execute(
                select(card.c.tail, card.c.state, person.c.person_key).outerjoin(person, person.c.ref == card.c.person)
            )
            return {row.tail: (row.person_key, row.state) for row in rows}


@pytest.fixture
def sync(store: Store) -> Sync:
    return Sync(store)


def counts(plan: Plan) -> tuple[int, int, int, int, int, int, int]:
    found = plan.counts()
    cards = found["cards"]
    return (
        found["create"],
        found["update"],
        found["remove"],
        cards["link"],
        cards["replace"],
        cards["revoke"],
        found["conflicts"],
    )


def test_a_second_run_with_the_same_data_changes_nothing(sync: Sync) -> None:
    people = [record(str(number), "", f"c{number}") for number in range(50)]
    assert counts(sync.apply(*people)) == (50, 0, 0, 50, 0, 0, 0)
    assert counts(sync.plan(*people)) == (0, 0, 0, 0, 0, 0, 0)


def test_a_replaced_card_keeps_the_person_and_denies_the_old_number(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith", "aaaa"))
    assert counts(sync.apply(record("1", "Ann Smith", "bbbb"))) == (0, 0, 0, 0, 1, 0, 0)
    assert sync.cards() == {"AAAA": ("1", "replaced"), "BBBB": ("1", "active")}


def test_a_card_that_the_source_takes_away_is_blocked_and_comes_back_when_it_returns(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith", "aaaa"))
    sync.apply(record("1", "Ann Smith"))
    assert sync.cards() == {"AAAA": ("1", "blocked")}
    sync.apply(record("1", "Ann Smith", "aaaa"))
    assert sync.cards() == {"AAAA": ("1", "active")}


def test_a_state_set_by_hand_is_not_undone_by_a_sync(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith", "aaaa"))
    with sync.store.write() as connection:
        connection.execute(tables.card.update().values(state="lost", state_by="person:office"))
    assert counts(sync.apply(record("1", "Ann Smith", "aaaa"))) == (0, 0, 0, 0, 0, 0, 0)
    assert sync.cards() == {"AAAA": ("1", "lost")}


def test_absence_means_leaving_only_after_a_complete_read(sync: Sync) -> None:
    sync.apply(record("1"), record("2"))
    assert counts(sync.plan(record("1"), complete=False)) == (0, 0, 0, 0, 0, 0, 0)
    assert counts(sync.apply(record("1"))) == (0, 0, 1, 0, 0, 0, 0)
    assert sync.people()["2"][1] == "missing"
    assert counts(sync.apply(record("1"), record("2"))) == (0, 0, 0, 0, 0, 0, 0)
    assert sync.people()["2"][1] == "active"


def test_who_is_absent_from_two_complete_reads_has_left_and_may_come_back(sync: Sync) -> None:
    sync.apply(record("1"), record("2", "Bo Chen", "bbbb"))
    for expected in ((0, 0, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0)):
        assert counts(sync.apply(record("1"))) == expected
    assert sync.people()["2"][1] == "inactive"
    assert sync.plan(record("1")).operations == []
    assert counts(sync.apply(record("1"), record("2", "Bo Chen", "bbbb"))) == (0, 1, 0, 0, 0, 0, 0)
    assert sync.people()["2"][1] == "active"
    assert sync.cards() == {"BBBB": ("2", "active")}


def test_who_was_missing_for_a_day_has_left_even_if_no_read_was_complete_since(sync: Sync) -> None:
    sync.apply(record("1"), record("2"))
    sync.apply(record("1"))
    sync.at_ms += MISSING_MS
    sync.apply(record("1"), complete=False)
    assert sync.people()["2"][1] == "inactive"


def test_who_the_source_says_has_left_is_inactive_at_once(sync: Sync) -> None:
    sync.apply(record("1"), record("2"))
    plan = sync.apply(record("1"), Gone("student", "2", "line 2", "status"))
    assert counts(plan) == (0, 0, 1, 0, 0, 0, 0)
    assert sync.people()["2"][1] == "inactive"


def test_a_source_that_counts_more_than_it_gave_removes_nobody(sync: Sync) -> None:
    sync.apply(record("1"), record("2"))
    with sync.store.read() as connection:
        known = load_known(connection, SITE, sync.source)
    feed = gather([record("1"), Complete(2)])
    assert not feed.complete
    assert make_plan(feed, known, CAN, 1_000).operations == []


def test_somebody_in_an_unreadable_row_has_not_left(sync: Sync) -> None:
    sync.apply(record("1"), record("2"))
    assert counts(sync.plan(record("1"), Unreadable("line 2", "broken", "2"))) == (0, 0, 0, 0, 0, 0, 0)


def test_staff_stay_where_the_source_does_not_say_that_they_leave(sync: Sync) -> None:
    sync.apply(record("1"), record("S1", role="staff"))
    with sync.store.read() as connection:
        known = load_known(connection, SITE, sync.source)
    plan = make_plan(feed_of(record("1")), known, Capabilities(removes_staff=False), 1_000)
    assert plan.operations == []
    assert "1 members of staff" in plan.notices[0]


def test_an_id_that_returns_with_another_name_is_refused(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith"), record("2"))
    sync.apply(record("2"))
    sync.apply(record("2"))
    plan = sync.apply(record("1", "Boris Karlsson"), record("2"))
    assert [conflict.kind for conflict in plan.conflicts] == ["id_reused"]
    assert sync.people()["1"] == ("Ann Smith", "inactive")


def test_two_people_who_exchange_their_ids_are_both_left_as_they_are(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith", "aaaa"), record("2", "Boris Karlsson", "bbbb"))
    plan = sync.apply(record("1", "Boris Karlsson", "bbbb"), record("2", "Ann Smith", "aaaa"))
    assert [conflict.kind for conflict in plan.conflicts] == ["id_swapped", "id_swapped"]
    assert plan.operations == []
    assert sync.cards() == {"AAAA": ("1", "active"), "BBBB": ("2", "active")}


def test_a_marriage_a_nickname_or_a_repaired_accent_is_an_update(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith"), record("2", "JosÃ© GarcÃ\xada"), record("3", "Bo Chen"))
    plan = sync.apply(record("1", "Ann Jones"), record("2", "José García"), record("3", "Chen Bo"))
    assert counts(plan) == (0, 3, 0, 0, 0, 0, 0)


def test_a_new_id_with_the_same_lasting_id_is_the_same_person_and_the_old_id_is_never_given_again(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith", "aaaa", stable="U1"), record("2", stable="U2"))
    plan = sync.apply(record("9", "Ann Smith", "aaaa", stable="U1"), record("2", stable="U2"))
    assert counts(plan) == (0, 1, 0, 0, 0, 0, 0)
    assert set(sync.people()) == {"9", "2"}
    again = sync.plan(
        record("9", "Ann Smith", "aaaa", stable="U1"), record("2", stable="U2"), record("1", "Carl Berg", stable="U3")
    )
    assert [conflict.kind for conflict in again.conflicts] == ["id_reused"]


def test_two_rows_with_one_id_and_different_people_change_neither(sync: Sync) -> None:
    sync.apply(record("1", "Ann Smith"), record("2"))
    twin = replace(record("1", "Boris Karlsson"), place="line 77")
    plan = sync.plan(record("1", "Ann Smith"), twin, record("2"))
    assert [(item.kind, item.person_key) for item in plan.conflicts] == [("duplicate_key", "1")]
    assert plan.operations == []


def test_rows_of_one_person_that_differ_in_the_card_only_are_their_several_cards(sync: Sync) -> None:
    second = replace(record("1", "Ann Smith", "bbbb"), place="line 2")
    assert counts(sync.apply(record("1", "Ann Smith", "aaaa"), second)) == (1, 0, 0, 2, 0, 0, 0)


def test_a_card_that_two_newcomers_claim_goes_to_neither(sync: Sync) -> None:
    plan = sync.apply(record("1", "", "aaaa"), record("2", "", "aaaa"), record("3", "", "cccc"))
    assert counts(plan) == (3, 0, 0, 1, 0, 0, 2)
    assert sync.cards() == {"CCCC": ("3", "active")}


def test_the_holder_of_a_card_keeps_it_against_another_claim(sync: Sync) -> None:
    sync.apply(record("1", "", "aaaa"))
    plan = sync.apply(record("1", "", "aaaa"), record("2", "", "aaaa"))
    assert [(item.kind, item.person_key) for item in plan.conflicts] == [("card_shared", "2")]
    assert sync.cards() == {"AAAA": ("1", "active")}


def test_a_card_let_go_and_claimed_in_one_read_moves(sync: Sync) -> None:
    sync.apply(record("1", "", "aaaa"), record("2"))
    plan = sync.apply(record("1", "", "bbbb"), record("2", "", "aaaa"))
    assert counts(plan)[3:] == (2, 0, 0, 0)
    assert sync.cards() == {"AAAA": ("2", "active"), "BBBB": ("1", "active")}


def test_taps_from_before_the_card_was_known_find_their_person_and_later_holders_get_none_of_them(sync: Sync) -> None:
    event = {
        "gateway": 1,
        "epoch": "e",
        "site": SITE,
        "kind": "tap",
        "received_ms": 0,
        "committed_ms": 0,
        "historical": False,
        "card_key": claim("aaaa").key,
        "raw": b"{}",
    }
    with sync.store.write() as connection:
        connection.execute(insert(tables.gateway).values(id=1, site=SITE, name="gw"))
        connection.execute(insert(tables.event).values(**event, seq=1, at_ms=10))
    sync.apply(record("1", "", "aaaa"), record("2"))
    sync.apply(record("1"), record("2", "", "aaaa"))
    with sync.store.write() as connection:
        connection.execute(insert(tables.event).values(**event, seq=2, at_ms=sync.at_ms - 500))
        connection.execute(insert(tables.event).values(**event, seq=3, at_ms=sync.at_ms + 500))
    sync.apply(record("1"), record("2", "", "aaaa"))
    person = tables.person
    with sync.store.read() as connection:
        refs = {row.ref: row.person_key for row in connection.execute(select(person.c.ref, person.c.person_key))}
        rows = connection.execute(select(tables.event.c.seq, tables.event.c.person, tables.event.c.matched_ms))
        found = {row.seq: (refs.get(row.person), row.matched_ms is not None) for row in rows}
    assert found == {1: ("1", True), 2: ("1", True), 3: ("2", True)}


PEOPLE = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(["7A", "7B", "8C"]), st.sets(st.integers(1, 9), max_size=2)),
    max_size=12,
    unique_by=lambda item: item[0],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PEOPLE, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_whatever_the_reads_the_directory_ends_as_the_last_one_says_and_the_next_plan_is_empty(
    tmp_path_factory: pytest.TempPathFactory, reads: list[list[tuple[int, str, set[int]]]], draw: random.Random
) -> None:
    folder: Path = tmp_path_factory.mktemp("hub")
    store = open_store("sqlite:///hub.db", folder)
    store.migrate()
    add_site(store, folder / "site.key")
    sync = Sync(store)
    try:
        for people in reads:
            rows = [
                in_group(record(str(key), "", *(f"card{card}" for card in cards)), group)
                for key, group, cards in people
            ]
            shuffled = draw.sample(rows, len(rows))
            assert plan_hash(sync.plan(*rows).operations) == plan_hash(sync.plan(*shuffled).operations)
            # Cards change hands in steps: whoever holds one in a read they share keeps it until they let go.
            for _ in range(4):
                sync.apply(*shuffled)
            assert sync.plan(*rows).operations == []
            active = {key for key, (_, state) in sync.people().items() if state == "active"}
            assert active == {str(key) for key, _, _ in people}
            claimed = {card for _, _, cards in people for card in cards}
            sole = {card: next(key for key, _, cards in people if card in cards) for card in claimed}
            shared = {card for card in claimed if sum(card in cards for _, _, cards in people) > 1}
            for card, key in sole.items():
                if card not in shared:
                    assert sync.cards()[f"ARD{card}"] == (str(key), "active")
    finally:
        store.close()


def _big(sync: Sync, count: int = 200) -> list[Record]:
    people = [in_group(record(str(number), "", f"c{number}"), f"{7 + number % 5}A") for number in range(count)]
    sync.apply(*people)
    return people


def _verdict(sync: Sync, *items: FeedItem) -> tuple[int, int, list[str]]:
    feed = feed_of(*items)
    with sync.store.read() as connection:
        known = load_known(connection, SITE, sync.source)
    verdict = judge(make_plan(feed, known, CAN, 1_000), feed, known, Limits())
    return len(verdict.safe), len(verdict.held), verdict.reasons


def test_the_guard_lets_a_few_leave_and_holds_a_mass_departure_while_newcomers_enter(sync: Sync) -> None:
    people = _big(sync)
    assert _verdict(sync, *people[10:]) == (10, 0, [])
    newcomer = record("new", "New Comer", "cnew")
    safe, held, reasons = _verdict(sync, *people[11:], newcomer)
    assert (safe, held) == (2, 11)
    assert reasons == ["11 of 200 pupils would be removed."]


def test_the_guard_holds_the_loss_of_a_year(sync: Sync) -> None:
    people = [in_group(record(str(number)), f"{7 + number % 10}A") for number in range(400)]
    sync.apply(*people)
    gone = {item.person_key for item in people if item.fields.groups == ("7A",)} - {"0", "10", "20"}
    for few, expected in ((10, (10, 0)), (15, (0, 15))):
        left = set(sorted(gone)[:few])
        assert _verdict(sync, *(item for item in people if item.person_key not in left))[:2] == expected


def test_the_guard_never_believes_an_empty_school(sync: Sync) -> None:
    sync.apply(record("1"))
    assert _verdict(sync)[:2] == (0, 1)


def test_the_guard_holds_a_column_of_exchanged_cards(sync: Sync) -> None:
    people = _big(sync)
    shifted = [replace(item, cards=people[place - 1].cards) for place, item in enumerate(people)]
    safe, held, reasons = _verdict(sync, *shifted)
    assert (safe, held) == (0, 200)
    assert "cards" in reasons[0]


def test_the_guard_holds_removals_while_nameless_rows_are_unreadable(sync: Sync) -> None:
    people = _big(sync)
    assert _verdict(sync, *people[1:], Unreadable("line 9", "broken"))[:2] == (0, 1)
