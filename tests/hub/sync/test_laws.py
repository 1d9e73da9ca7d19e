"""The laws of a sync, for any school: what always holds, whatever a source says and in whatever order.

A run has no undo in this release, so there is no law about it; what a run did is set right by the next read. That
nobody shares an address and nobody is mailed at a made-up one stands in test_emails.py, a whole year in test_a_year.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.hub.directory import overrides
from gateway.hub.directory.cards import by_hand
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import open_store
from gateway.hub.sync import holds
from gateway.hub.sync.apply import Applier
from gateway.hub.sync.feed import Feed, gather
from gateway.hub.sync.operations import Conflict, Operation, Plan, op_hash
from gateway.hub.sync.plan import Rules, make_plan
from gateway.mis.base import Complete, FeedItem, Gone, Record, Unreadable
from tests.hub.samples import SITE, add_site
from tests.hub.sync.school_reads import Site, row

SHAPE = ("year", "form", "email", "birth_date")
ENOUGH = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HUMANS = range(8)
FREE = len(HUMANS)


@dataclass(frozen=True, slots=True)
class NewSites:
    """Makes sites: each example of a law begins with an empty one."""

    template: Path
    folder: Path

    @contextmanager
    def __call__(self) -> Iterator[Site]:
        shutil.copy(self.template, self.folder / "hub.db")
        store = open_store("sqlite:///hub.db", self.folder)
        add_site(store, self.folder / "site.key")
        try:
            yield Site(store)
        finally:
            store.close()


@pytest.fixture
def new_site(template: Path, tmp_path: Path) -> NewSites:
    return NewSites(template, tmp_path)


@dataclass(frozen=True, slots=True)
class School:
    """An orderly school: each human once, each card and each address with one of them at most."""

    here: frozenset[int]
    keys: tuple[str, ...]
    names: tuple[str, ...]
    years: tuple[str | None, ...]
    cards: tuple[int, ...]
    emails: tuple[int, ...]

    def rows(self) -> list[Record]:
        return [self._row(number) for number in sorted(self.here)]

    def _row(self, number: int) -> Record:
        return row(
            f"{self.keys[number]}{number}",
            f"Given{number} {self.names[number]}{number}",
            *(f"card {place}" for place, holder in enumerate(self.cards) if holder == number),
            born=f"2010-01-{number + 1:02d}",
            lasting=f"U{number}",
            role="staff" if number % 3 == 0 else "student",
            year=self.years[number],
            email=next((f"e{place}@s.example" for place, holder in enumerate(self.emails) if holder == number), None),
        )


def _each(*choices: Any) -> st.SearchStrategy[Any]:
    return st.tuples(*(st.sampled_from(choices) for _ in HUMANS))


def _holders(count: int) -> st.SearchStrategy[Any]:
    return st.tuples(*(st.integers(0, FREE) for _ in range(count)))


def _one_each(holders: tuple[int, ...]) -> tuple[int, ...]:
    # An address of one's own is enough.
    return tuple(holder if holder not in holders[:place] else FREE for place, holder in enumerate(holders))


SCHOOLS = st.builds(
    School,
    st.frozensets(st.sampled_from(HUMANS)),
    _each("", "N"),
    _each("Family", "Married"),
    _each("7", "8", None),
    _holders(6),
    _holders(5).map(_one_each),
)

# Whatever a source may say: ids, names, cards and addresses stand beside anybody.
DISORDER = st.lists(
    st.builds(
        row,
        st.sampled_from("1234"),
        st.sampled_from(["Ann Smith", "Ann Miller", "Ben Smith", "Ben Jones", "Smith Ann"]),
        st.sampled_from(["card a", "card b", "card c"]),
        st.sampled_from(["card a", "card d"]),
        born=st.sampled_from([None, "2012-03-04", "2012-04-03", "2011-05-06"]),
        lasting=st.sampled_from([None, "U1", "U2", "U3"]),
        role=st.sampled_from(["student", "staff"]),
        group=st.sampled_from([None, "7B", "Chess"]),
        email=st.sampled_from([None, "x@s.example", "y@s.example", "none"]),
        says_cards=st.booleans(),
    )
    | st.builds(Gone, st.sampled_from(["student", None]), st.sampled_from("1234"), st.just(""), st.just("status"))
    | st.builds(Unreadable, st.just(""), st.just("unreadable"), st.sampled_from(["1", None])),
    max_size=7,
).map(lambda items: [replace(item, place=f"line {number}") for number, item in enumerate(items)])


def directory(site: Site) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Return everybody who is let in, with the cards that open for them."""
    person, card = tables.person, tables.card
    with site.store.read() as connection:
        usable = connection.execute(
            select(card.c.person, card.c.tail, card.c.key).where(card.c.state == "active")
        ).all()
        people = connection.execute(select(person).where(person.c.state.in_(("active", "missing")))).all()
    return {
        (one.role, one.person_key): (
            one.given_name,
            one.family_name,
            one.year,
            one.email,
            one.birth_date,
            frozenset(item.key for item in usable if item.person == one.ref),
        )
        for one in people
    }


def as_read(rows: list[Record]) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (one.role, one.person_key): (
            one.fields.given_name,
            one.fields.family_name,
            one.fields.year,
            one.fields.email,
            one.fields.birth_date,
            frozenset(card.key for card in one.cards or ()),
        )
        for one in rows
    }


@ENOUGH
@given(SCHOOLS, SCHOOLS)
def test_the_directory_becomes_what_the_source_says_and_the_next_plan_is_empty(
    new_site: NewSites, before: School, after: School
) -> None:
    with new_site() as site:
        for school in (before, after):
            # Whoever is absent once is missing, and keeps card and address until the second read without them.
            for _ in range(2):
                site.apply(*school.rows(), shape=SHAPE)
            assert directory(site) == as_read(school.rows())
            plan = site.plan(*school.rows(), shape=SHAPE)
            assert (plan.operations, plan.conflicts) == ([], [])


def _named(conflicts: list[Conflict]) -> list[tuple[str, str, str]]:
    return sorted((item.kind, item.entity, item.person_key) for item in conflicts)


def _plan_of(site: Site, feed: Feed) -> tuple[list[Operation], list[Conflict], list[str]]:
    plan: Plan = make_plan(feed, site.known(), site.can, site.at_ms, Rules(pupil_emails=True))
    return plan.operations, plan.conflicts, plan.notices


def _in_parts(item: FeedItem) -> list[FeedItem]:
    if not isinstance(item, Record) or not item.cards:
        return [item]
    return [replace(item, cards=(card,)) for card in item.cards]


@ENOUGH
@given(DISORDER, DISORDER, st.randoms(use_true_random=False))
def test_the_order_the_doubling_and_the_splitting_of_a_read_change_nothing(
    new_site: NewSites, before: list[FeedItem], after: list[FeedItem], draw: Random
) -> None:
    with new_site() as site:
        site.apply(*before)
        plain = _plan_of(site, gather([*after, Complete()]))
        shuffled = draw.sample(after, len(after))
        pages = [*shuffled, *draw.sample(after, draw.randint(0, len(after)))]
        assert _plan_of(site, gather([*pages, Complete()])) == plain
        parts = draw.sample(parts := list(chain(*map(_in_parts, after))), len(parts))
        operations, conflicts, _ = _plan_of(site, gather([*parts, Complete()]))
        # A conflict describes one of the rows that are in it, with the cards of that row.
        assert (operations, _named(conflicts)) == (plain[0], _named(plain[1]))
        lists: list[FeedItem] = [*shuffled[:3], Complete(list="students"), *shuffled[3:], Complete(list="staff")]
        assert _plan_of(site, gather(lists)) == plain


@ENOUGH
@given(SCHOOLS, SCHOOLS, st.sampled_from(["no end", "fewer than counted", "another list"]))
def test_a_read_that_is_not_whole_removes_nobody(new_site: NewSites, before: School, after: School, how: str) -> None:
    with new_site() as site:
        site.apply(*before.rows(), shape=SHAPE)
        rows = after.rows()
        ends: dict[str, list[FeedItem]] = {
            "no end": [],
            "fewer than counted": [Complete(len(rows) + 1)],
            "another list": [Complete(list="contacts")],
        }
        for _ in range(3):
            operations, _, _ = _plan_of(site, gather([*rows, *ends[how]]))
            assert {item.kind for item in operations} <= {
                "create",
                "update",
                "rekey",
                "link",
                "replace",
                "move",
                "revoke",
            }
            site.apply(*rows, complete=False)
        assert {one[3] for one in site.people()} <= {"active"}


@ENOUGH
@given(SCHOOLS)
def test_an_empty_list_removes_nobody_until_somebody_says_so(new_site: NewSites, school: School) -> None:
    with new_site() as site:
        site.apply(*school.rows(), shape=SHAPE)
        _, verdict = site.judge()
        assert verdict.safe == []
        assert len(verdict.held) == len(school.here)


@dataclass(slots=True)
class Watch:
    """What must never happen over any number of runs."""

    owners: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def look(self, site: Site) -> None:
        identity, holding, card, claim = tables.identity.c, tables.holding.c, tables.card.c, tables.person_claim.c
        with site.store.read() as connection:
            ids = connection.execute(
                select(identity.source, identity.entity, identity.namespace, identity.value, identity.person)
            ).all()
            claims = connection.execute(select(claim.source, claim.entity, claim.person_key, claim.person)).all()
            held = connection.execute(select(holding.card, holding.since_ms, holding.until_ms, holding.person)).all()
            cards = connection.execute(select(card.id, card.person)).all()
        for *of, ref in ids:
            assert self.owners.setdefault(tuple(of), ref) == ref, "an id went from one human to another"
        for source, entity, key, ref in claims:
            assert self.owners[source, entity, "key", key] == ref
        for number, ref in cards:
            spans = sorted(
                (one.since_ms or 0, float("inf") if one.until_ms is None else one.until_ms, one.person)
                for one in held
                if one.card == number
            )
            assert all(one[1] <= other[0] for one, other in pairwise(spans)), "two held a card at once"
            assert [span[2] for span in spans if span[1] == float("inf")] == ([ref] if ref else [])


@ENOUGH
@given(st.lists(DISORDER, min_size=2, max_size=5))
def test_no_id_is_ever_anothers_and_no_card_has_two_holders_at_once(
    new_site: NewSites, reads: list[list[FeedItem]]
) -> None:
    with new_site() as site:
        watch = Watch()
        for read in reads:
            for _ in range(2):
                site.apply(*read)
                watch.look(site)


@ENOUGH
@given(DISORDER, DISORDER)
def test_the_same_read_comes_to_rest_whatever_it_says(
    new_site: NewSites, before: list[FeedItem], after: list[FeedItem]
) -> None:
    with new_site() as site:
        site.apply(*before)
        for _ in range(4):
            site.apply(*after)
        assert site.plan(*after).operations == []


@ENOUGH
@given(st.tuples(SCHOOLS, SCHOOLS), st.tuples(SCHOOLS, SCHOOLS), st.randoms(use_true_random=False))
def test_the_order_in_which_sources_run_changes_nobody(
    new_site: NewSites, of_mis: tuple[School, School], of_other: tuple[School, School], draw: Random
) -> None:
    ends = []
    for shuffles in (False, True):
        with new_site() as site:
            # The rank of a source is its age.
            site.source("mis"), site.source("other")
            for mis, other in zip(of_mis, of_other, strict=True):
                turns = [("mis", mis), ("other", other)] * 3
                for name, school in draw.sample(turns, len(turns)) if shuffles else turns:
                    rows = [_own(item, says_cards=name == "mis") for item in school.rows()]
                    site.apply(*rows, source=name, shape=SHAPE)
            ends.append(directory(site))
    assert ends[0] == ends[1]


def _own(item: Record, *, says_cards: bool) -> Record:
    """Return a row with an address that is nobody else's in any source: one that two claim is its first holder's."""
    email = f"{item.stable_id}@s.example" if item.fields.email else None
    fields = msgspec.structs.replace(item.fields, email=email)
    return replace(item, fields=fields, cards=item.cards if says_cards else None)


@ENOUGH
@given(st.lists(st.tuples(st.sampled_from(["7A", "7B"]), st.sampled_from(["7", "8"])), min_size=2), st.data())
def test_a_correction_lives_until_the_source_changes_that_value(
    new_site: NewSites, says: list[tuple[str, str]], data: st.DataObject
) -> None:
    corrected_after = data.draw(st.integers(0, len(says) - 1))
    with new_site() as site:
        expected: str | None = None
        for place, (form, year) in enumerate(says):
            site.apply(row("1", "Ann Smith", form=form, year=year))
            if place and says[place - 1][0] != form:
                expected = None
            assert site.person("1").form == (expected or form)
            if place == corrected_after:
                with site.store.write() as connection:
                    audit = Audit(by_hand("office"), SITE, site.at_ms)
                    overrides.correct(connection, site.person("1").ref, "form", "9Z", audit)
                expected = "9Z"
                assert site.person("1").form == "9Z"


def run(site: Site, rows: list[Record]) -> tuple[set[str], set[str]]:
    """Make a run with its guard and its holds; return the hashes of what was applied and of what waits."""
    source = site.source()
    _, verdict = site.judge(*rows)
    site.at_ms += 1_000
    with site.store.write() as connection:
        holds.hold_again(connection, source, verdict)
        approved, refused = holds.decided(connection, source)
        holds.release(verdict, approved)
        holds.stop(verdict, refused)
        Applier(connection, SITE, source, Audit("sync", SITE, site.at_ms), "active").apply(verdict.safe)
        holds.keep(connection, source, 1, verdict, verdict.safe)
    return {op_hash(item) for item in verdict.safe}, {op_hash(item) for item in verdict.held}


@ENOUGH
@given(st.sets(st.integers(0, 19), min_size=7), st.sets(st.integers(0, 19)), st.integers(0, 40), st.data())
def test_of_what_is_held_exactly_what_somebody_approves_is_applied(
    new_site: NewSites, gone: set[int], renamed: set[int], newcomers: int, data: st.DataObject
) -> None:
    with new_site() as site:
        site.apply(*(row(f"{number}") for number in range(20)))
        rows = [
            row(f"{number}", f"Given{number} Changed") if number in renamed else row(f"{number}")
            for number in range(20)
        ]
        rows = [item for number, item in enumerate(rows) if number not in gone]
        rows += [row(f"N{number}") for number in range(newcomers)]
        _, held = run(site, rows)
        assert held
        chosen = data.draw(st.sets(st.sampled_from(sorted(held))))
        holds.decide(site.store, site.source(), by_hand("head"), "approved", chosen)
        assert run(site, rows) == (chosen, held - chosen)
        # Whoever was approved to be missing leaves at the third read; the others wait, however few they are by now.
        applied, waiting = run(site, rows)
        assert (applied & held, waiting) == (set(), held - chosen)
