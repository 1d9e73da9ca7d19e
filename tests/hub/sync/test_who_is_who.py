"""Every case of who is who: what a read says, and what becomes of it.

Five rows of the table are not here. Children's contacts do not come in with their relations yet: one parent in a row
for each child (39), a relation that ends (42) and one that is barred (43). Accounts are not tied to people yet, so an
address that is in use to sign in changes like any other (34), and no domain is closed to parents (36).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import pytest
from sqlalchemy import select

from gateway.hub.directory import overrides
from gateway.hub.directory.cards import by_hand, set_card_state
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store
from gateway.hub.sync.plan import Rules
from gateway.mis.base import HIDDEN, Capabilities, FeedItem, Gone, Record
from tests.hub.samples import SITE
from tests.hub.sync.school_reads import CAN, Site, kinds, row, troubles

Read = tuple[FeedItem, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A case: the reads before, the read in question, and its outcome.

    Attributes:
        before: reads of the MIS, reads of another source by its name, or what somebody does by hand.
        source: whose read is in question.
        rules: how a source is compared.
        operations: kinds of the operations, in order.
        people: (role, id, name, state) of everybody afterwards.
        cards: tail -> (id, state) afterwards; None: not looked at.
        emails: id -> address afterwards; None: not looked at.
        form: of the only person afterwards; None: not looked at.
        notice: the only notice; empty: there is none.
    """

    number: str
    name: str
    before: tuple[Read | tuple[str, Read] | Callable[[Site], None], ...]
    read: Read
    operations: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    people: set[tuple[str, str, str, str]] = field(default_factory=set)
    cards: dict[str, tuple[str | None, str]] | None = None
    emails: dict[str, str | None] | None = None
    form: str | None = None
    notice: str = ""
    source: str = "mis"
    rules: dict[str, Rules] = field(default_factory=dict)
    can: Capabilities = CAN


def pupil(key: str, name: str, state: str = "active") -> tuple[str, str, str, str]:
    return ("student", key, name, state)


ANN = row("1", "Ann Smith", "aaaa", born="2012-03-04", lasting="U1")
BEN = row("2", "Ben Jones", "bbbb", born="2011-05-06", lasting="U2")
PLAIN_ANN = row("1", "Ann Smith", "aaaa")
PLAIN_BEN = row("2", "Ben Jones", "bbbb")
BOTH = {pupil("1", "Ann Smith"), pupil("2", "Ben Jones")}


def _ann(
    name: str = "Ann Smith", key: str = "1", born: str | None = "2012-03-04", lasting: str | None = "U1"
) -> Record:
    return row(key, name, "aaaa", born=born, lasting=lasting)


def _lose_the_card(site: Site) -> None:
    with site.store.write() as connection:
        card = connection.execute(select(tables.card.c.id)).scalar_one()
        set_card_state(connection, card, "lost", Audit(by_hand("office"), SITE, site.at_ms))


def _correct_the_form(site: Site) -> None:
    with site.store.write() as connection:
        overrides.correct(connection, site.person("1").ref, "form", "7C", Audit(by_hand("office"), SITE, site.at_ms))


def _teacher(key: str, name: str, state: str = "active") -> tuple[str, str, str, str]:
    return ("staff", key, name, state)


ZOE = row("T1", "Zoe Lane", role="staff")
IVO = row("T2", "Ivo Berg", role="staff")
CARDS_ONLY = {"cards": Rules(cards_only=True)}
MIS_STAYS_MUTE = Capabilities(removes_staff=False)

CASES = [
    Case(
        "1",
        "a known lasting id with other names is a rename",
        ((ANN,),),
        (_ann("Anna Miller"),),
        ["update"],
        people={pupil("1", "Anna Miller")},
    ),
    Case(
        "2",
        "a known lasting id with another given name and birth date is not believed",
        ((ANN,),),
        (_ann("Boris Smith", born="2014-01-01"),),
        conflicts=["id_reused"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "3",
        "a school id alone with the same given name is the same pupil",
        ((PLAIN_ANN,),),
        (row("1", "Ann Miller", "aaaa"),),
        ["update"],
        people={pupil("1", "Ann Miller")},
    ),
    Case(
        "4",
        "a school id alone is not a brother's: the family name proves nothing",
        ((PLAIN_ANN,),),
        (row("1", "Bilal Smith", "cccc"),),
        conflicts=["id_reused"],
        people={pupil("1", "Ann Smith")},
        cards={"AAAA": ("1", "active")},
    ),
    Case(
        "4b",
        "a shared given name with another birth date is another pupil",
        ((row("1", "Ann Smith", born="2012-03-04"),),),
        (row("1", "Ann Miller", born="2010-09-09"),),
        conflicts=["id_reused"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "4c",
        "an exchanged day and month is asked about",
        ((row("1", "Ann Smith", born="2012-03-04"),),),
        (row("1", "Ann Smith", born="2012-04-03"),),
        conflicts=["id_reused"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "5",
        "a new school id under a known lasting id keeps the history",
        ((ANN,),),
        (_ann(key="9"),),
        ["rekey"],
        people={pupil("9", "Ann Smith")},
        cards={"AAAA": ("9", "active")},
    ),
    Case(
        "6",
        "a retired id is never another pupil's",
        ((ANN,), (_ann(key="9"),)),
        (_ann(key="9"), row("1", "Carl Berg", lasting="U9")),
        conflicts=["id_reused"],
        people={pupil("9", "Ann Smith")},
    ),
    Case(
        "7",
        "a retired id may be its own owner's again",
        ((ANN,), (_ann(key="9"),)),
        (_ann(key="1"),),
        ["rekey"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "8",
        "two who exchange ids in one read are both left alone",
        ((PLAIN_ANN, PLAIN_BEN),),
        (row("1", "Ben Jones", "bbbb"), row("2", "Ann Smith", "aaaa")),
        conflicts=["id_swapped", "id_swapped"],
        people=BOTH,
        cards={"AAAA": ("1", "active"), "BBBB": ("2", "active")},
    ),
    Case(
        "8b",
        "an exchange that comes in two reads is found in the first of them",
        ((PLAIN_ANN, PLAIN_BEN),),
        (row("1", "Ben Jones", "aaaa"), PLAIN_BEN),
        conflicts=["id_swapped"],
        people=BOTH,
    ),
    Case(
        "9",
        "the lasting id of one beside the school id of the other is a swap",
        ((ANN, BEN),),
        (row("1", "Ann Smith", "aaaa", born="2012-03-04", lasting="U2"), _ann("Ben Jones", "2", "2011-05-06", "U1")),
        conflicts=["id_swapped", "id_swapped"],
        people=BOTH,
    ),
    Case(
        "10",
        "one pupil in several rows has all their groups and cards",
        (),
        (PLAIN_ANN, row("1", "Ann Smith", "cccc", group="Chess", place="line 9")),
        ["create", "link", "link"],
        people={pupil("1", "Ann Smith")},
        cards={"AAAA": ("1", "active"), "CCCC": ("1", "active")},
    ),
    Case(
        "11",
        "two pupils under one id both stay as they are",
        ((PLAIN_ANN,),),
        (PLAIN_ANN, row("1", "Boris Karlsson", place="line 9")),
        conflicts=["duplicate_key"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "12",
        "pupil 26 and member of staff 26 are two people",
        (),
        (row("26", "Ann Smith"), row("26", "Carl Berg", role="staff", place="line 9")),
        ["create", "create"],
        people={pupil("26", "Ann Smith"), ("staff", "26", "Carl Berg", "active")},
    ),
    Case(
        "13",
        "a lasting id and the birth date prove who somebody is under other names and ids, which is reported",
        ((ANN,),),
        (row("77", "Anna Miller", born="2012-03-04", lasting="U1", says_cards=False),),
        ["join"],
        people={pupil("1", "Ann Smith")},
        notice="Recognised by lasting id and birth date, under other names than before: line 77.",
        source="catering",
    ),
    Case(
        "13b",
        "whoever gets other names and another id at once keeps the history, which is reported",
        ((ANN,),),
        (_ann("Eva Miller", "9"),),
        ["rekey", "update"],
        people={pupil("9", "Eva Miller")},
        cards={"AAAA": ("9", "active")},
        notice="Recognised by lasting id and birth date, under other names than before: line 9.",
    ),
    Case(
        "13c",
        "a lasting id with other names and no birth date to compare proves nothing",
        ((row("1", "Ann Smith", lasting="U1"),),),
        (row("9", "Eva Miller", lasting="U1"),),
        conflicts=["id_reused"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "14",
        "other ids with the same names and birth date are asked about",
        ((row("1", "Ann Smith", born="2012-03-04"), PLAIN_BEN),),
        (row("1", "Ann Smith", born="2012-03-04"), PLAIN_BEN, row("77", "Ann Smith", born="2012-03-04")),
        conflicts=["maybe_same"],
        people=BOTH,
    ),
    Case(
        "15",
        "a list of cards gives a card to whose id is known, and says nothing of people",
        ((row("1", "Ann Smith"), row("2", "Ben Jones")),),
        (row("1", " ", "aaaa"),),
        ["link"],
        people=BOTH,
        cards={"AAAA": ("1", "active")},
        source="cards",
        rules=CARDS_ONLY,
    ),
    Case(
        "16",
        "a card of an unknown id waits and is nobody's",
        ((row("1", "Ann Smith"),),),
        (row("2", " ", "bbbb"),),
        ["await"],
        people={pupil("1", "Ann Smith")},
        cards={"BBBB": (None, "prelinked")},
        source="cards",
        rules=CARDS_ONLY,
    ),
    Case(
        "16b",
        "a card that waits is linked when its pupil appears",
        (("cards", (row("2", " ", "bbbb"),)),),
        (row("2", "Ben Jones", says_cards=False),),
        ["create", "link"],
        people={pupil("2", "Ben Jones")},
        cards={"BBBB": ("2", "active")},
        rules=CARDS_ONLY,
    ),
    Case(
        "17",
        "absent once is missing and still let in",
        ((PLAIN_ANN, PLAIN_BEN),),
        (PLAIN_ANN,),
        ["remove"],
        people={pupil("1", "Ann Smith"), pupil("2", "Ben Jones", "missing")},
    ),
    Case(
        "17b",
        "absent twice has left, and the card is kept",
        ((PLAIN_ANN, PLAIN_BEN), (PLAIN_ANN,)),
        (PLAIN_ANN,),
        ["leave"],
        people={pupil("1", "Ann Smith"), pupil("2", "Ben Jones", "inactive")},
        cards={"AAAA": ("1", "active"), "BBBB": ("2", "active")},
    ),
    Case(
        "17c",
        "whoever the source says has left is inactive at once",
        ((PLAIN_ANN, PLAIN_BEN),),
        (PLAIN_ANN, Gone("student", "2", "line 2", "status")),
        ["remove"],
        people={pupil("1", "Ann Smith"), pupil("2", "Ben Jones", "inactive")},
    ),
    Case(
        "18",
        "absent staff stay and are listed where the source does not say that they leave",
        ((ZOE, IVO),),
        (ZOE,),
        people={_teacher("T1", "Zoe Lane"), _teacher("T2", "Ivo Berg")},
        notice="1 members of staff are no longer in the source; they are not removed.",
        can=MIS_STAYS_MUTE,
    ),
    Case(
        "18b",
        "absent staff whose last day is over have left all the same",
        ((ZOE, row("T2", "Ivo Berg", role="staff", ends_on=date(1969, 12, 30))),),
        (ZOE,),
        ["remove"],
        people={_teacher("T1", "Zoe Lane"), _teacher("T2", "Ivo Berg", "inactive")},
        can=MIS_STAYS_MUTE,
    ),
    Case(
        "18c",
        "absent staff whose last day may not be over everywhere stay",
        ((ZOE, row("T2", "Ivo Berg", role="staff", ends_on=date(1969, 12, 31))),),
        (ZOE,),
        people={_teacher("T1", "Zoe Lane"), _teacher("T2", "Ivo Berg")},
        notice="1 members of staff are no longer in the source; they are not removed.",
        can=MIS_STAYS_MUTE,
    ),
    Case(
        "19",
        "absent staff are missing like pupils where the source says that they leave",
        ((ZOE, IVO),),
        (ZOE,),
        ["remove"],
        people={_teacher("T1", "Zoe Lane"), _teacher("T2", "Ivo Berg", "missing")},
    ),
    Case(
        "20",
        "back after one missed read is nothing new",
        ((PLAIN_ANN, PLAIN_BEN), (PLAIN_ANN,)),
        (PLAIN_ANN, PLAIN_BEN),
        ["return"],
        people=BOTH,
    ),
    Case(
        "21",
        "back after they had left, with the card",
        ((PLAIN_ANN, PLAIN_BEN), (PLAIN_ANN,), (PLAIN_ANN,)),
        (PLAIN_ANN, PLAIN_BEN),
        ["return"],
        people=BOTH,
        cards={"AAAA": ("1", "active"), "BBBB": ("2", "active")},
    ),
    Case(
        "22",
        "whom the source no longer shares is inactive at once and keeps the card",
        ((PLAIN_ANN, PLAIN_BEN),),
        (PLAIN_ANN, Gone("student", "2", "line 2", HIDDEN)),
        ["remove"],
        people={pupil("1", "Ann Smith"), pupil("2", "Ben Jones", "inactive")},
        cards={"AAAA": ("1", "active"), "BBBB": ("2", "active")},
    ),
    Case(
        "22b",
        "whom the source shares again is back with the card",
        ((PLAIN_ANN, PLAIN_BEN), (PLAIN_ANN, Gone("student", "2", "line 2", HIDDEN))),
        (PLAIN_ANN, PLAIN_BEN),
        ["return"],
        people=BOTH,
        cards={"AAAA": ("1", "active"), "BBBB": ("2", "active")},
    ),
    Case(
        "23",
        "a pupil whose year is no longer taken is out of scope and keeps the card",
        ((row("1", "Ann Smith", "aaaa", year="7"),),),
        (row("1", "Ann Smith", "aaaa", year="8"), row("2", "Ben Jones", "bbbb", year="8")),
        ["exclude"],
        people={pupil("1", "Ann Smith", "out_of_scope")},
        cards={"AAAA": ("1", "active")},
        notice="2 people are not among the lists and years that are taken.",
        rules={"mis": Rules(years=frozenset({"7"}))},
    ),
    Case(
        "24",
        "a new card beside none is linked",
        ((row("1", "Ann Smith"),),),
        (PLAIN_ANN,),
        ["link"],
        people={pupil("1", "Ann Smith")},
        cards={"AAAA": ("1", "active")},
    ),
    Case(
        "25",
        "another number replaces the card in one step",
        ((PLAIN_ANN,),),
        (row("1", "Ann Smith", "cccc"),),
        ["replace"],
        people={pupil("1", "Ann Smith")},
        cards={"AAAA": ("1", "replaced"), "CCCC": ("1", "active")},
    ),
    Case(
        "26",
        "the holder of a card keeps it against another claim",
        ((PLAIN_ANN, row("2", "Ben Jones")),),
        (PLAIN_ANN, row("2", "Ben Jones", "aaaa")),
        conflicts=["card_shared"],
        people=BOTH,
        cards={"AAAA": ("1", "active")},
    ),
    Case(
        "27",
        "a card that two newcomers claim is nobody's",
        (),
        (row("1", "Ann Smith", "aaaa"), row("2", "Ben Jones", "aaaa")),
        ["create", "create"],
        ["card_shared", "card_shared"],
        people=BOTH,
        cards={},
    ),
    Case(
        "28",
        "a card let go and claimed in one read moves",
        ((PLAIN_ANN, row("2", "Ben Jones")),),
        (row("1", "Ann Smith"), row("2", "Ben Jones", "aaaa")),
        ["move"],
        people=BOTH,
        cards={"AAAA": ("2", "active")},
    ),
    Case(
        "29",
        "a card that the office set lost stays lost whatever the source says",
        ((PLAIN_ANN,), _lose_the_card),
        (row("1", "Ann Miller", "aaaa"),),
        ["update"],
        people={pupil("1", "Ann Miller")},
        cards={"AAAA": ("1", "lost")},
    ),
    Case(
        "30",
        "an e-mail address that is none is left out and told",
        (),
        (row("1", "Ann Smith", email="ann.smith"),),
        ["create"],
        ["email_bad"],
        people={pupil("1", "Ann Smith")},
    ),
    Case(
        "31",
        "one e-mail address of two people is nobody's",
        (),
        (row("1", "Ann Smith", email="x@s.example"), row("2", "Ben Jones", email="x@s.example")),
        ["create", "create"],
        ["email_shared", "email_shared"],
        people=BOTH,
    ),
    Case(
        "32",
        "an address of one's own comes in with the next read of people",
        ((row("1", "Ann Smith"),),),
        (row("1", "Ann Smith", email="ann@s.example"),),
        ["update"],
        people={pupil("1", "Ann Smith")},
        emails={"1": "ann@s.example"},
    ),
    Case(
        "32b",
        "a list of cards changes no address",
        ((row("1", "Ann Smith", email="ann@s.example"),),),
        (row("1", " ", "aaaa", email="other@s.example"),),
        ["link"],
        people={pupil("1", "Ann Smith")},
        emails={"1": "ann@s.example"},
        source="cards",
        rules=CARDS_ONLY,
    ),
    Case(
        "33",
        "an address that somebody with another id has stays theirs",
        ((row("2", "Ben Jones", email="ben@s.example"),),),
        (row("9", "Carl Berg", email="ben@s.example"),),
        ["create"],
        ["email_other_id"],
        people={pupil("2", "Ben Jones"), pupil("9", "Carl Berg")},
        emails={"2": "ben@s.example", "9": None},
        source="catering",
    ),
    Case(
        "33b",
        "an address that its holder gives up in the same read is free",
        ((row("1", "Ann Smith", email="x@s.example"), row("2", "Ben Jones", email="y@s.example")),),
        (row("1", "Ann Smith", email="z@s.example"), row("2", "Ben Jones", email="x@s.example")),
        ["update", "update"],
        people=BOTH,
        emails={"1": "z@s.example", "2": "x@s.example"},
    ),
    Case(
        "33c",
        "an address of somebody who leaves with this read is free",
        ((row("1", "Ann Smith", email="x@s.example"), row("2", "Ben Jones")),),
        (Gone("student", "1", "line 1", "status"), row("2", "Ben Jones", email="x@s.example")),
        ["update", "remove"],
        people={pupil("1", "Ann Smith", "inactive"), pupil("2", "Ben Jones")},
        emails={"1": "x@s.example", "2": "x@s.example"},
    ),
    Case(
        "35",
        "a member of staff who is a parent too keeps the address of both",
        (),
        (
            row("T1", "Ann Smith", email="x@s.example", role="staff"),
            row("C1", "Ann Smith", email="x@s.example", role="contact"),
        ),
        ["create", "create"],
        people={("staff", "T1", "Ann Smith", "active"), ("contact", "C1", "Ann Smith", "active")},
    ),
    Case(
        "35b",
        "a parent whom another source brings shares the address of the same member of staff",
        ((row("T1", "Ann Smith", email="x@s.example", role="staff"),),),
        (row("C1", "Ann Smith", email="x@s.example", role="contact"),),
        ["create"],
        people={("staff", "T1", "Ann Smith", "active"), ("contact", "C1", "Ann Smith", "active")},
        emails={"T1": "x@s.example", "C1": "x@s.example"},
        source="parents",
    ),
    Case(
        "37",
        "a member of staff whose address as a parent is another one has both",
        (),
        (
            row("T1", "Ann Smith", email="work@s.example", role="staff"),
            row("C1", "Ann Smith", email="home@x.example", role="contact"),
        ),
        ["create", "create"],
        people={("staff", "T1", "Ann Smith", "active"), ("contact", "C1", "Ann Smith", "active")},
        emails={"T1": "work@s.example", "C1": "home@x.example"},
    ),
    Case(
        "38",
        "addresses of pupils stay out where the school does not want them",
        (),
        (row("1", "Ann Smith", email="ann@s.example"), row("T1", "Zoe Lane", email="zoe@s.example", role="staff")),
        ["create", "create"],
        people={pupil("1", "Ann Smith"), _teacher("T1", "Zoe Lane")},
        emails={"1": None, "T1": "zoe@s.example"},
        rules={"mis": Rules(pupil_emails=False)},
    ),
    Case(
        "40",
        "a correction by hand ends when the MIS changes its own value",
        ((row("1", "Ann Smith", form="7A"),), _correct_the_form),
        (row("1", "Ann Smith", form="7D"),),
        ["update"],
        people={pupil("1", "Ann Smith")},
        form="7D",
    ),
    Case(
        "40b",
        "a correction by hand outlives a change of anything else",
        ((row("1", "Ann Smith", form="7A"),), _correct_the_form),
        (row("1", "Ann Miller", form="7A"),),
        ["update"],
        people={pupil("1", "Ann Miller")},
        form="7C",
    ),
    Case(
        "41",
        "names that look damaged are applied and listed",
        ((row("1", "José Smith"),),),
        (row("1", "JosÃ© Smith"),),
        ["update"],
        people={pupil("1", "JosÃ© Smith")},
        notice="Names applied as they are, although they look damaged: line 1.",
    ),
    Case(
        "44",
        "a pupil who comes to work at the school is a new person",
        ((row("1", "Ann Smith"), row("9", "Ivo Berg", role="staff")),),
        (row("1", "Ann Smith", role="staff"), row("9", "Ivo Berg", role="staff")),
        ["create", "remove"],
        people={
            pupil("1", "Ann Smith", "missing"),
            ("staff", "1", "Ann Smith", "active"),
            ("staff", "9", "Ivo Berg", "active"),
        },
    ),
    Case(
        "44b",
        "a pupil with a birth date who comes to work at the school is suggested as the same human",
        ((row("1", "Ann Smith", "aaaa", born="2004-03-04"), ZOE),),
        (row("T9", "Ann Smith", born="2004-03-04", role="staff"), ZOE, Gone("student", "1", "line 1", "status")),
        ["create", "remove"],
        people={pupil("1", "Ann Smith", "inactive"), _teacher("T9", "Ann Smith"), _teacher("T1", "Zoe Lane")},
        cards={"AAAA": ("1", "active")},
        notice="line T9: student 1 has the same name and birth date; as staff they are a person of their own, "
        "with cards of their own.",
    ),
]


@pytest.fixture
def site(store: Store) -> Site:
    return Site(store)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}")
def test_who_is_who(site: Site, case: Case) -> None:
    site.rules, site.can = case.rules, case.can
    for step in case.before:
        if callable(step):
            step(site)
        elif step and isinstance(step[0], str):
            site.apply(*step[1], source=step[0])
        else:
            site.apply(*step)
    refs = site.refs()
    plan = site.apply(*case.read, source=case.source)
    assert (kinds(plan), troubles(plan)) == (case.operations, case.conflicts)
    assert plan.notices == ([case.notice] if case.notice else [])
    assert site.people() == case.people
    if case.cards is not None:
        assert site.cards() == case.cards
    if case.emails is not None:
        assert site.emails() == case.emails
    if case.form is not None:
        assert site.person("1").form == case.form
    # Whoever was here keeps the reference, whatever their id is now.
    assert set(refs.values()) <= set(site.refs().values())
    again = site.plan(*case.read, source=case.source)
    assert [kind for kind in kinds(again) if kind != "leave"] == []


def test_a_lasting_id_is_evidence_and_may_be_replaced(site: Site) -> None:
    # A temporary UPN becomes the permanent one while the lost card is replaced in the same export.
    site.apply(row("1", "Ann Smith", "aaaa", lasting="A80120000001A"))
    plan = site.apply(row("1", "Ann Smith", "cccc", lasting="A801200000017"))
    assert (kinds(plan), troubles(plan)) == (["rekey", "replace"], [])
    assert site.cards() == {"AAAA": ("1", "replaced"), "CCCC": ("1", "active")}
    assert site.plan(row("1", "Ann Smith", "cccc", lasting="A801200000017")).operations == []


def test_a_lasting_id_that_several_share_is_a_placeholder_and_nobody_s(site: Site) -> None:
    plan = site.apply(*(row(key, f"Name{key} Family{key}", lasting="9999999999") for key in ("1", "2", "3")))
    assert (kinds(plan), troubles(plan)) == (["create"] * 3, [])
    assert sum("placeholder" in text for text in plan.notices) == 1


def test_a_sibling_never_takes_over_the_id_card_and_history_of_a_leaver(site: Site) -> None:
    site.apply(PLAIN_ANN, PLAIN_BEN)
    site.apply(PLAIN_BEN)
    site.apply(PLAIN_BEN)
    plan = site.apply(row("1", "Boris Smith", says_cards=False), PLAIN_BEN)
    assert (kinds(plan), troubles(plan)) == ([], ["id_reused"])
    assert pupil("1", "Ann Smith", "inactive") in site.people()


def test_a_card_in_use_that_the_source_no_longer_claims_is_the_first_thing_to_decide(site: Site) -> None:
    site.apply(PLAIN_ANN, PLAIN_BEN)
    plan = site.plan(row("1", "Carl Berg", "cccc"), PLAIN_BEN, row("3", "Dora Diaz"), row("3", "Eva Ek", place="x"))
    assert [(item.kind, item.is_urgent) for item in plan.conflicts] == [("id_reused", True), ("duplicate_key", False)]
    assert "AAAA still opens as Ann Smith" in plan.conflicts[0].why


def test_an_answered_conflict_is_acted_on_and_only_for_what_was_said(site: Site) -> None:
    site.apply(PLAIN_ANN)
    renamed = row("1", "Nan Miller", "aaaa")
    assert troubles(site.apply(renamed)) == ["id_reused"]
    site.answer("same")
    assert troubles(site.plan(row("1", "Boris Berg", "aaaa"))) == ["id_reused"]
    plan = site.apply(renamed)
    assert (kinds(plan), troubles(plan)) == (["update"], [])
    assert site.people() == {pupil("1", "Nan Miller")}


@pytest.mark.parametrize(("answer", "count"), [("same", 1), ("other", 2)])
def test_whether_two_of_one_name_and_birth_date_are_one_is_for_the_office_to_say(
    site: Site, answer: str, count: int
) -> None:
    old = row("1", "Ann Smith", born="2012-03-04")
    site.apply(old)
    new = row("77", "Ann Smith", born="2012-03-04")
    assert troubles(site.apply(new, source="other")) == ["maybe_same"]
    assert len(site.people()) == 1
    site.answer(answer)
    site.apply(new, source="other")
    assert len(site.people()) == count


def test_somebody_under_a_new_id_of_the_same_source_keeps_the_history_once_the_office_says_so(site: Site) -> None:
    site.apply(row("1", "Ann Smith", "aaaa", born="2012-03-04"))
    moved = row("77", "Ann Smith", "aaaa", born="2012-03-04")
    refs = set(site.refs().values())
    # One pupil is not enough to see that ids changed on purpose.
    assert troubles(site.apply(moved, row("2", "Ben Jones"))) == ["maybe_same"]
    site.answer("same")
    site.apply(moved, row("2", "Ben Jones"))
    assert site.refs()["student", "77"] in refs
    assert site.cards() == {"AAAA": ("77", "active")}
    assert site.plan(moved, row("2", "Ben Jones")).operations == []


def test_two_rows_of_one_person_are_a_conflict_even_if_the_office_calls_them_one(site: Site) -> None:
    both = (row("1", "Ann Smith", born="2012-03-04"), row("77", "Ann Smith", born="2012-03-04"))
    site.apply(both[0])
    assert troubles(site.apply(*both)) == ["maybe_same"]
    site.answer("same")
    plan = site.apply(*both)
    assert (kinds(plan), troubles(plan)) == ([], ["maybe_same"])


def test_a_second_source_joins_by_id_and_name_and_never_by_name_alone(site: Site) -> None:
    site.apply(PLAIN_ANN)
    plan = site.apply(row("1", "Ann Smith"), row("5", "Ann Smith"), source="catering")
    assert kinds(plan) == ["create", "join"]
    assert troubles(site.plan(row("1", "Zed Wu"), source="third")) == ["id_reused"]
    # Nobody is inactive while one of the sources still brings them.
    for _ in range(2):
        site.apply(row("5", "Ann Smith"), source="catering")
    assert pupil("1", "Ann Smith") in site.people()


def test_the_first_source_in_rank_is_believed_whatever_the_order_of_the_runs(site: Site) -> None:
    site.apply(row("1", "Ann Smith", year="7"))
    site.apply(row("1", "Ann Miller", year="8", email="a@x.example"), source="catering")
    for _ in range(2):
        one = site.person("1")
        assert (one.family_name, one.year, one.email) == ("Smith", "7", "a@x.example")
        site.apply(row("1", "Ann Smith", year="7"))
        site.apply(row("1", "Ann Miller", year="8", email="a@x.example"), source="catering")


def test_a_list_of_cards_gives_cards_to_people_of_the_mis_and_keeps_those_of_people_to_come(site: Site) -> None:
    site.rules["cards"] = Rules(cards_only=True)
    site.apply(row("1", "Ann Smith"))
    plan = site.apply(row("1", " ", "aaaa"), row("2", " ", "bbbb"), source="cards")
    assert kinds(plan) == ["await", "link"]
    assert site.cards() == {"AAAA": ("1", "active"), "BBBB": (None, "prelinked")}
    assert site.plan(row("1", " ", "aaaa"), row("2", " ", "bbbb"), source="cards").operations == []
    site.apply(row("1", "Ann Smith", says_cards=False), row("2", "Ben Jones", says_cards=False))
    assert site.cards() == {"AAAA": ("1", "active"), "BBBB": ("2", "active")}


def test_only_the_lists_and_years_that_are_ticked_come_in_and_cards_outlive_a_change_of_them(site: Site) -> None:
    people = (row("1", "Ann Smith", "aaaa", year="7"), row("2", "Ben Jones", "bbbb", year="8"))
    site.apply(*people)
    site.rules["mis"] = Rules(years=frozenset({"7"}))
    assert kinds(site.apply(*people)) == ["exclude"]
    assert pupil("2", "Ben Jones", "out_of_scope") in site.people()
    assert site.plan(*people).operations == []
    site.rules["mis"] = Rules(years=frozenset({"7", "8"}))
    assert kinds(site.apply(*people)) == ["return"]
    assert site.people() == BOTH
    assert site.cards() == {"AAAA": ("1", "active"), "BBBB": ("2", "active")}


def test_a_field_that_the_source_empties_is_emptied_and_one_it_does_not_have_is_kept(site: Site) -> None:
    site.apply(row("1", "Ann Smith", year="7", email="a@x.example"))
    site.apply(row("1", "Ann Smith"), shape=("email",))
    one = site.person("1")
    assert (one.year, one.email) == ("7", None)
