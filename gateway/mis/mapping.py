"""Which column is which: the headings that the usual exports have, and the words in their cells; pure.

Headings are compared without case, spaces and signs. The styles in the tests: SIMS, Arbor, Bromcom, Synergetic,
PaperCut, iSAMS, Compass, Entra ID, OneRoster and lists kept by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# For each field its headings, the most specific first.
HEADINGS: Mapping[str, tuple[str, ...]] = {
    "person_key": (
        "person_key",
        "student id",
        "admission number",
        "admission no",
        "admission",
        "adno",
        "pupil id",
        "student code",
        "student number",
        "staff code",
        "staff id",
        "employee id",
        "community id",
        "school id",
        "mis id",
        "person id",
        "external id",
        "sourcedid",
        "username",
        "user name",
        "login",
        "user principal name",
        "userprincipalname",
        "id",
    ),
    "role": ("role", "user type", "person type", "type", "usertype"),
    "given_name": (
        "given_name",
        "preferred forename",
        "preferred first name",
        "preferred name",
        "chosen forename",
        "forename",
        "given name",
        "first name",
        "legal forename",
        "legal first name",
        "given",
        "first",
    ),
    "family_name": (
        "family_name",
        "preferred surname",
        "preferred last name",
        "chosen surname",
        "surname",
        "family name",
        "last name",
        "legal surname",
        "legal last name",
        "family",
        "last",
    ),
    "full_name": ("full_name", "full name", "display name", "displayname", "student name", "pupil name", "name"),
    "year": ("year group", "year", "year level", "nc year", "national curriculum year", "grade", "grades", "yeargroup"),
    "form": (
        "registration group",
        "reg group",
        "reg",
        "registration form",
        "form",
        "form group",
        "tutor group",
        "tutor",
        "home group",
        "homeroom",
        "roll class",
    ),
    "house": ("house", "house name"),
    "department": ("department", "faculty"),
    "groups": ("groups", "group", "class", "classes", "teaching groups"),
    "card": (
        "card",
        "card number",
        "card no",
        "card id",
        "card serial number",
        "card serial",
        "card uid",
        "chip number",
        "rfid",
        "rfid number",
        "mifare",
        "mifare number",
        "uid",
        "userids",
    ),
    "stable_id": ("stable_id", "upn", "uln", "unique pupil number", "object id", "objectid", "guid", "person guid"),
    "birth_date": ("birth_date", "date of birth", "dob", "birth date", "birthday"),
    "email": ("email", "e-mail", "email address", "school email", "primary email", "mail", "primary email address"),
    "status": (
        "status",
        "enrolment status",
        "enrollment status",
        "account status",
        "on roll",
        "roll status",
        "student status",
        "system status",
    ),
    "enabled": ("enabled", "account enabled", "accountenabled", "enableduser", "active", "is active"),
    "disabled": ("disabled", "restricted", "account disabled", "archived", "deleted"),
    "starts_on": ("starts_on", "valid from", "start date", "admission date", "date of admission", "employment start"),
    "ends_on": (
        "ends_on",
        "date of leaving",
        "leaving date",
        "leave date",
        "date left",
        "dol",
        "valid until",
        "valid to",
        "expiry date",
        "end date",
        "employment end",
        "departure date",
    ),
}
# A second card of a person, for a change-over in which both work.
_MORE_CARDS = re.compile(r"(?:secondary|second|2nd|other|alternate|old)?card(?:number|no|id|uid)?(?:2|3|two)?")
ROLE_WORDS: Mapping[str, str] = {
    "pupil": "student",
    "pupils": "student",
    "students": "student",
    "learner": "student",
    "teacher": "staff",
    "teachers": "staff",
    "employee": "staff",
    "aide": "staff",
    "administrator": "staff",
    "districtadministrator": "staff",
    "siteadministrator": "staff",
    "systemadministrator": "staff",
    "principal": "staff",
    "proctor": "staff",
    "faculty": "staff",
    "support": "staff",
    "support staff": "staff",
    "teaching staff": "staff",
    "non-teaching staff": "staff",
    "member of staff": "staff",
    "parent": "contact",
    "guardian": "contact",
    "relative": "contact",
    "carer": "contact",
    "guest": "visitor",
    "contractor": "visitor",
}
_GONE = frozenset(
    {
        "left",
        "leaver",
        "inactive",
        "disabled",
        "withdrawn",
        "alumni",
        "alumnus",
        "alumna",
        "former",
        "graduated",
        "departed",
        "tobedeleted",
        "deleted",
        "archived",
        "terminated",
        "resigned",
        "ended",
        "expired",
        "removed",
        "ceased",
        "off roll",
        "not on roll",
        "former student",
        "past student",
        "no longer enrolled",
    }
)
_HERE = frozenset(
    {
        "active",
        "current",
        "enrolled",
        "onroll",
        "present",
        "yes",
        "true",
        "y",
        "1",
        "enabled",
        "full",
        "main",
        "single",
        "subsidiary",
        "guest",
        "registered",
        "attending",
        "normal",
        "permanent",
        "temporary",
        "on roll",
        "current student",
        "dual registration",
        "main dual",
        "single registration",
        "current pupil",
    }
)
_YES = frozenset(["yes", "y", "true", "t", "1", "x", "enabled", "active"])
_NO = frozenset(["no", "n", "false", "f", "0", "disabled", "inactive"])


@dataclass(slots=True)
class Layout:
    """Where each field is.

    Attributes:
        places: field -> columns, several for cards and groups.
        headings: field -> heading, as the source writes it.
        notices: what somebody should know about the choice.
    """

    places: dict[str, list[int]] = field(default_factory=dict)
    headings: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    missing: tuple[str, str] | None = None


def plain_heading(heading: str) -> str:
    """Return a heading for comparison."""
    return "".join(letter for letter in heading.casefold() if letter.isalnum())


_KNOWN = {
    plain_heading(heading): (name, place) for name, some in HEADINGS.items() for place, heading in enumerate(some)
}


def score_header(cells: Sequence[str], columns: Mapping[str, Sequence[str]]) -> int:
    """Return how many cells of a line are headings that are named or usual."""
    named = {plain_heading(heading) for some in columns.values() for heading in some}
    plain = [plain_heading(cell) for cell in cells]
    return sum(bool(cell) and (cell in named or cell in _KNOWN) for cell in plain)


def lay_out(header: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Layout:
    """Find the column of every field: those that the settings name, and the usual headings for the rest.

    Args:
        columns: field -> headings of the file, from the settings; a missing one is told in `missing`.
    """
    layout = Layout()
    plain = [plain_heading(heading) for heading in header]
    for name, headings in columns.items():
        for heading in headings:
            if plain_heading(heading) not in plain:
                layout.missing = (name, heading)
                continue
            layout.places.setdefault(name, []).append(plain.index(plain_heading(heading)))
    used = {place for some in layout.places.values() for place in some}
    found: dict[str, list[tuple[int, int]]] = {}
    for place, heading in enumerate(plain):
        if place not in used and heading in _KNOWN:
            name, rank = _KNOWN[heading]
            if name not in columns:
                found.setdefault(name, []).append((rank, place))
    for name, some in found.items():
        some.sort()
        layout.places[name] = [some[0][1]]
        others = [header[place] for _, place in some[1:]]
        if others and name not in {"given_name", "family_name"}:
            layout.notices.append(
                f"{name.replace('_', ' ')} is read from {header[some[0][1]]!r}; {' and '.join(map(repr, others))} "
                "would fit as well. Name the right one under columns if that is wrong."
            )
    if "card" in layout.places and "card" not in columns:
        taken = {place for some in layout.places.values() for place in some}
        for place, heading in enumerate(plain):
            if place not in taken and _MORE_CARDS.fullmatch(heading) and any(mark in heading for mark in "23otn"):
                layout.places["card"].append(place)
    layout.headings = {name: " + ".join(header[place] for place in some) for name, some in layout.places.items()}
    return layout


def read_role(text: str, default: str) -> str | None:
    """Return the role that a word means, None for an unknown word."""
    word = " ".join(text.casefold().split())
    if not word:
        return default
    if word in {"student", "staff", "contact", "visitor"}:
        return word
    return ROLE_WORDS.get(word)


def is_gone(status: str) -> bool | None:
    """Return whether a status says that somebody has left, None for a word that is not known."""
    word = " ".join(status.casefold().replace("_", " ").split())
    if not word or word in _HERE or word.replace(" ", "") in _HERE:
        return False
    return True if word in _GONE or word.replace(" ", "") in _GONE else None


def is_yes(text: str) -> bool | None:
    """Return what a yes or no says, None for another word."""
    word = text.strip().casefold()
    return True if word in _YES else False if word in _NO else None
