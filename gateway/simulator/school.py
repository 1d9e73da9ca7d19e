"""A sample school with invented pupils and staff, and with names and cards that often break software.

Everything is drawn from a seed, so the same school stands on every machine. Names hold accents, apostrophes, scripts
written from the right, one word or sixty letters; some people have no card, a few cards are on two people, UIDs have 4
and 7 bytes.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid, UidKind

SEED = 2026
_STAFF_SHARE = 16
_WITHOUT_CARD = 0.02
_SHARED_CARDS = 3
_LONG_UIDS = 0.6
_YEARS = range(7, 14)
_FORMS = "ABCDEFGH"
_NXP = 0x04
_CASCADE_TAG = 0x88


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


_GIVEN = _words(
    "Aisha Amelia Anaïs Arjun Beatrix Björn Callum Chloë Dáithí Dylan Eilidh Elif Émile Farah Finlay François Gráinne "
    "Hamza Iga Imogen Jiří José Kaja Lachlan Leilani Łukasz Maeve Małgorzata Mehmet Niamh Noor Ôkami Oisín Priya Rhys "
    "Saoirse Seán Siân Søren Tadhg Temperance Ugo Víctor Wren Xanthe Yusuf Zoë Þóra"
)
_FAMILY = _words(
    "Abernathy O'Brien Brontë D'Angelo Davies Dvořák Evans Fitzgerald García-Márquez Ganiyu Håkansson Hughes Iyer "
    "Jones Kaczyński Kowalewska Lindqvist MacLeod McAllister Müller Nguyễn N'Diaye O'Shaughnessy Okonkwo Özdemir Patel "
    "Pritchard Quigley Rao Şahin Smith Smythe-Jones St.John Tañada Thomas Umarov Vaughan van_der_Berg Williams Wójcik "
    "Y\u0131ld\u0131z Zieliński"
)
# Written from the right, without spaces, in one word, or longer than any field was made for.
_AWKWARD = (
    ("محمد", "عبد الرحمن"),
    ("נועם", "בן־דוד"),
    ("伟", "欧阳"),
    ("ゆうき", "山田"),
    ("Suharto", ""),
    ("", "Pelé"),
    ("Wolfeschlegelsteinhausenbergerdorff", "Featherstonehaugh-Cholmondeley-Majoribanks"),
    ("Anne\u2011Marie", "O\u2019Neill"),
    ("Zoe\u0308", "Decomposed"),
    ("Robert'); --", "Tables"),
    ('Jo "Jojo"', 'Quote, the "Third"'),
    ("=SUM(A1)", "Formula"),
    ("Null", "None"),
    ("X", "Æ"),
)


@dataclass(frozen=True, slots=True)
class SchoolPerson:
    """One row of the sample MIS; `uid` is None for somebody without a card."""

    person_key: str
    role: str
    given_name: str
    family_name: str
    group: str
    uid: Uid | None


@dataclass(frozen=True, slots=True)
class School:
    people: tuple[SchoolPerson, ...]

    def cards(self) -> list[tuple[str, Uid]]:
        """Return person_key and UID of everybody whose card is theirs alone: those whose taps must be granted."""
        owners = Counter(person.uid for person in self.people if person.uid)
        return [(person.person_key, person.uid) for person in self.people if person.uid and owners[person.uid] == 1]

    def shared_cards(self) -> list[Uid]:
        """Return the cards that two people have: nobody's until the school decides."""
        owners = Counter(person.uid for person in self.people if person.uid)
        return [uid for uid, count in owners.items() if count > 1]

    def write_csv(self, path: Path) -> None:
        """Write the export of the sample MIS: UTF-8 with its mark, as spreadsheets save it."""
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Student ID", "Type", "First", "Last", "Form", "Card"])
            for person in self.people:
                card = encode(person.uid, "hex-msb") if person.uid else ""
                row = [person.person_key, person.role, person.given_name, person.family_name, person.group, card]
                writer.writerow(row)


def sample_school(pupils: int = 2000, seed: int = SEED) -> School:
    """Draw a school; staff are added at one to sixteen pupils."""
    draw = random.Random(seed)
    uids: set[Uid] = set()
    people: list[SchoolPerson] = []
    for number in range(pupils):
        given, family = _name(draw, number)
        group = f"{draw.choice(_YEARS)}{draw.choice(_FORMS)}"
        # Leading zeros: an id is a text, not a number.
        people.append(SchoolPerson(f"{number + 1:06d}", "student", given, family, group, _card(draw, uids)))
    for number in range(max(1, pupils // _STAFF_SHARE)):
        given, family = draw.choice(_GIVEN), draw.choice(_FAMILY)
        people.append(SchoolPerson(f"S{number + 1:04d}", "staff", given, family, "Staff", _card(draw, uids)))
    return School(tuple(_share_some(draw, people)))


def _name(draw: random.Random, number: int) -> tuple[str, str]:
    if number < len(_AWKWARD):
        return _AWKWARD[number]
    return draw.choice(_GIVEN), draw.choice(_FAMILY)


def _card(draw: random.Random, taken: set[Uid]) -> Uid | None:
    if draw.random() < _WITHOUT_CARD:
        return None
    while True:
        raw = bytes([_NXP]) + draw.randbytes(6) if draw.random() < _LONG_UIDS else draw.randbytes(4)
        if raw[0] == _CASCADE_TAG and len(raw) == 4:
            continue
        uid = Uid(raw)
        if uid.kind is not UidKind.RANDOM and uid not in taken:
            taken.add(uid)
            return uid


def _share_some(draw: random.Random, people: list[SchoolPerson]) -> list[SchoolPerson]:
    holders = [place for place, person in enumerate(people) if person.uid]
    for _ in range(min(_SHARED_CARDS, len(holders) // 20)):
        first, second = draw.sample(holders, 2)
        person = people[second]
        people[second] = SchoolPerson(
            person.person_key, person.role, person.given_name, person.family_name, person.group, people[first].uid
        )
    return people
