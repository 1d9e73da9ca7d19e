"""What the guard holds: what takes away, what raises rights, and what only looks like a school of new people."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import msgspec
import pytest

from gateway.hub.store.engine import Store
from gateway.hub.sync.guard import Limits, judge
from gateway.hub.sync.operations import op_hash
from gateway.hub.sync.plan import make_plan
from gateway.mis.base import HIDDEN, Gone, Record
from tests.hub.sync.school_reads import Site, row


@pytest.fixture
def site(store: Store) -> Site:
    return Site(store)


def pupils(count: int, **fields: object) -> list[Record]:
    return [
        row(f"{number:06d}", f"Given{number} Family{number}", f"c{number:03d}", year=str(7 + number % 5), **fields)
        for number in range(count)
    ]


def other(person: Record, **fields: object) -> Record:
    return replace(person, fields=msgspec.structs.replace(person.fields, **fields))


def held(site: Site, *people: Record | Gone) -> tuple[int, int, list[str]]:
    _, verdict = site.judge(*people)
    assert len(verdict.why) == len(verdict.held)
    return len(verdict.safe), len(verdict.held), verdict.reasons


def test_ids_that_lost_their_zeros_are_one_case_and_make_nobody_twice(site: Site) -> None:
    people = pupils(40)
    site.apply(*people)
    saved = [replace(person, person_key=person.person_key.lstrip("0") or "0") for person in people]
    plan, verdict = site.judge(*saved)
    assert verdict.safe == []
    assert {item.kind for item in verdict.held} == {"rekey"}
    assert "zeros in front were lost" in verdict.reasons[0]
    assert plan.conflicts == []


@pytest.mark.parametrize("change", [str.lower, lambda key: f"\u200b{key}", lambda key: f"N{key[::-1]}"])
def test_ids_changed_all_at_once_are_recognised_by_their_people(site: Site, change: object) -> None:
    people = [replace(person, person_key=f"S{person.person_key}") for person in pupils(40)]
    site.apply(*people)
    _, verdict = site.judge(*(replace(item, person_key=change(item.person_key)) for item in people))  # type: ignore[operator]  # one of three functions
    assert {item.kind for item in verdict.held} == {"rekey"}
    assert verdict.safe == []


def test_new_ids_of_people_with_birth_dates_are_a_case_as_well_not_forty_questions(site: Site) -> None:
    people = [other(person, birth_date=date(2012, 1, 1 + place % 28)) for place, person in enumerate(pupils(40))]
    site.apply(*people)
    plan, verdict = site.judge(*(replace(person, person_key=f"Z{person.person_key}") for person in people))
    assert (plan.conflicts, {item.kind for item in verdict.held}) == ([], {"rekey"})


def test_an_id_column_that_was_sorted_alone_changes_nobody_not_even_who_fits_by_chance(site: Site) -> None:
    people = [row(str(number), f"Given{number % 8} Family{number}", f"c{number:03d}") for number in range(60)]
    site.apply(*people)
    moved = [replace(person, person_key=people[place - 8].person_key) for place, person in enumerate(people)]
    shifted = [replace(person, person_key=people[place - 1].person_key) for place, person in enumerate(people)]
    for read in (shifted, [*moved[:8], *shifted[8:]]):
        _, verdict = site.judge(*read)
        assert verdict.safe == []


def test_a_new_intake_beside_the_leavers_is_no_change_of_ids(site: Site) -> None:
    people = pupils(40)
    site.apply(*people)
    intake = [row(f"N{number}", f"New{number} Comer{number}") for number in range(12)]
    plan, verdict = site.judge(*people[12:], *intake)
    assert plan.rekeyed is None
    assert sum(item.kind == "create" for item in verdict.safe) == 12
    assert sum(item.kind == "remove" for item in verdict.held) == 12


def test_pupils_who_turn_into_staff_are_held_on_both_sides(site: Site) -> None:
    people = pupils(40)
    staff = [row(f"T{number}", f"Tea{number} Cher{number}", role="staff") for number in range(10)]
    site.apply(*people, *staff)
    raised = [other(person, role="staff") for person in people]
    safe, count, reasons = held(site, *raised, *staff)
    assert safe == 0
    assert count >= 80
    assert any("new among 10 members of staff" in reason for reason in reasons)


def test_one_new_teacher_comes_in_and_half_a_staff_room_waits(site: Site) -> None:
    staff = [row(f"T{number}", f"Tea{number} Cher{number}", role="staff") for number in range(20)]
    site.apply(*staff)
    fresh = [row(f"X{number}", f"Fresh{number} Face{number}", role="staff") for number in range(8)]
    assert held(site, *staff, fresh[0])[:2] == (1, 0)
    assert held(site, *staff, *fresh)[:2] == (0, 8)


def test_a_second_card_for_one_member_of_staff_waits_for_a_person(site: Site) -> None:
    head = row("T1", "Head Teacher", "hhhh", role="staff")
    site.apply(head, *pupils(40))
    safe, count, reasons = held(site, replace(head, cards=(*head.cards, *row("x", "", "zzzz").cards)), *pupils(40))  # type: ignore[misc]  # both have cards
    assert (safe, count) == (0, 1)
    assert "second card" in reasons[0]


def test_second_cards_for_a_whole_school_wait(site: Site) -> None:
    people = pupils(60)
    site.apply(*people)
    both = [
        replace(person, cards=(*(person.cards or ()), *(row("x", "", f"d{place}").cards or ())))
        for place, person in enumerate(people)
    ]
    assert held(site, *both)[:2] == (0, 60)


def test_a_lost_or_renamed_group_column_waits(site: Site) -> None:
    people = pupils(60)
    site.apply(*people)
    assert held(site, *(other(person, groups=("8C",)) for person in people))[:2] == (0, 60)
    few = [other(person, groups=("8C",)) if place < 5 else person for place, person in enumerate(people)]
    assert held(site, *few)[:2] == (5, 0)


def test_birth_dates_that_move_wait_at_two_in_a_hundred(site: Site) -> None:
    people = [other(person, birth_date=date(2012, 1, 1)) for person in pupils(100)]
    site.apply(*people)
    moved = [other(person, birth_date=None) if place < 40 else person for place, person in enumerate(people)]
    feed = site.feed(moved, shape=("birth_date",))
    known = site.known()
    verdict = judge(make_plan(feed, known, site.can, site.at_ms), feed, known, Limits())
    assert len(verdict.held) == 40


def test_whoever_a_status_column_says_has_left_counts_as_whoever_is_absent(site: Site) -> None:
    people = pupils(60)
    site.apply(*people)
    gone = [Gone("student", person.person_key, person.place, "status") for person in people[:30]]
    assert held(site, *people[30:], *gone)[:2] == (0, 30)


def test_the_hash_of_an_operation_is_the_same_in_every_run_that_wants_it(site: Site) -> None:
    people = pupils(60)
    site.apply(*people)
    _, first = site.judge(*people[30:])
    _, second = site.judge(*people[31:])
    assert {op_hash(item) for item in first.held} < {op_hash(item) for item in second.held}


def test_a_card_waits_with_its_person(site: Site) -> None:
    staff = [row(f"T{number}", f"Tea{number} Cher{number}", role="staff") for number in range(20)]
    site.apply(*staff)
    fresh = [row(f"X{number}", f"Fresh{number} Face{number}", f"x{number}", role="staff") for number in range(8)]
    _, verdict = site.judge(*staff, *fresh)
    assert {item.kind for item in verdict.held} == {"create", "link"}
    assert verdict.safe == []


def test_pupils_whom_the_source_no_longer_shares_have_a_limit_of_their_own(site: Site) -> None:
    people = pupils(100)
    site.apply(*people)
    hidden = [Gone("student", person.person_key, person.place, HIDDEN) for person in people]
    left = [Gone("student", person.person_key, person.place, "status") for person in people]
    # Five in a hundred of each may go, and neither uses up what the other may.
    plan, verdict = site.judge(*people[10:], *hidden[:5], *left[5:10])
    assert (len(verdict.safe), plan.counts()["hidden"], plan.counts()["remove"]) == (10, 5, 10)
    safe, count, reasons = held(site, *people[16:], *hidden[:12], *left[12:16])
    assert (safe, count) == (4, 12)
    assert reasons == ["12 of 100 pupils are no longer shared by the source."]
