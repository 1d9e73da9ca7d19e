"""The contract of every MIS connector.

A connector reads; it never writes the store. `fetch` yields a Record for each person and says how it ended: after
`Complete(list)` whoever is absent from that list has left, after `Ended(list)` only those that were named changed. A
card number becomes its card key inside the connector and never leaves it.
To add a kind: one file with a `build` function, one line in KINDS of options.py, a fake source in the simulator.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import msgspec

ROLES = ("student", "staff", "contact", "visitor")
# The lists that a source may have, and whose absence a complete read of each proves. `people` is one list of everybody.
PEOPLE_LIST = "people"
LISTS: Mapping[str, tuple[str, ...]] = {
    PEOPLE_LIST: ROLES,
    "students": ("student",),
    "staff": ("staff",),
    "contacts": ("contact",),
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a source; pages offer nothing that is False here.

    Attributes:
        removes_staff: a member of staff who is absent from a complete read has left; where False they stay and are
            listed.
    """

    read_students: bool = True
    read_staff: bool = True
    read_contacts: bool = False
    read_codes: bool = False
    incremental: bool = False
    deletions: bool = False
    removes_staff: bool = False
    write_session: bool = False
    write_comment: bool = False
    write_minutes_late: bool = False


@dataclass(frozen=True, slots=True)
class CardClaim:
    """A card that a source assigns to a person: its key in hex, never its number."""

    key: str
    tail: str
    projection: str


# Why somebody is gone who belongs to the school and may come back: the source no longer shares them with us.
HIDDEN = "hidden"

# The fields that are groups as well.
GROUP_FIELDS = ("year", "form", "house", "department")


class PersonFields(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a source says about a person; None where it says nothing, and what is known stays.

    Attributes:
        groups: what rules may name beside `year`, `form`, `house` and `department`, sorted.
        ends_on: the last day on which the person belongs to the school.
    """

    role: str
    given_name: str
    family_name: str
    groups: tuple[str, ...] | None = None
    year: str | None = None
    form: str | None = None
    house: str | None = None
    department: str | None = None
    birth_date: date | None = None
    email: str | None = None
    starts_on: date | None = None
    ends_on: date | None = None

    @property
    def name(self) -> str:
        return f"{self.given_name} {self.family_name}".strip()

    @property
    def all_groups(self) -> tuple[str, ...]:
        """Return every name that a rule may use for this person, sorted."""
        named = (getattr(self, name) for name in GROUP_FIELDS)
        return tuple(sorted({*(self.groups or ()), *(value for value in named if value)}))


@dataclass(frozen=True, slots=True)
class Record:
    """One person as the source has them.

    Attributes:
        person_key: the id people know, kept to the letter: leading zeros and case count.
        stable_id: an id that outlives a change of `person_key`, None when the source has none.
        cards: None when the source has no readable card data; an empty tuple removes the person's cards.
        place: where this record is in the source, such as `line 17`.
    """

    person_key: str
    fields: PersonFields
    cards: tuple[CardClaim, ...] | None
    place: str
    stable_id: str | None = None

    @property
    def role(self) -> str:
        return self.fields.role


@dataclass(frozen=True, slots=True)
class Gone:
    """Somebody who the source itself says has left: a status, a leaving date, a deletion.

    Attributes:
        entity: the role under which the id is unique; None when the source does not say.
        why: what the source says, without its own words: `status`, `leaving date`, `deleted`, `disabled`, HIDDEN.
    """

    entity: str | None
    person_key: str | None
    place: str
    why: str
    stable_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in the source that could not be used.

    Attributes:
        person_key: the person concerned, None when even that cannot be read.
        why: one sentence without the value itself.
    """

    place: str
    why: str
    person_key: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an administrator should know about this read, such as a guessed character set."""

    text: str


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a read finds each field: our name and the source's, such as `card` under `Card Number`.

    A field that the last good read had and this one lacks refuses the read: without it everybody would lose their
    groups or their cards.
    """

    headings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position of one list from which a later read can continue; stored once what came before it is applied."""

    list: str
    state: str


@dataclass(frozen=True, slots=True)
class Complete:
    """A list was read to its end; `expected` is the source's own count, None without one."""

    expected: int | None = None
    list: str = PEOPLE_LIST


@dataclass(frozen=True, slots=True)
class Ended:
    """A list of changes was read to its end: absence from it means nothing."""

    list: str = PEOPLE_LIST


FeedItem = Record | Gone | Unreadable | Notice | Shape | Checkpoint | Complete | Ended


@dataclass(frozen=True, slots=True)
class FieldSeen:
    """A field that a source offers, without its values.

    Attributes:
        path: as it can be written in the settings: a column's heading, or a dotted path.
        shape: what its values look like: `hex-8`, `digits-10`, `words`, `date`, `mixed`.
        card_like: whether most values read as card numbers in some encoding.
    """

    list: str
    path: str
    filled: int
    distinct: int
    shape: str
    card_like: bool


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a live test.

    Attributes:
        failure: None when it worked, else a fixed code such as `unreachable`, `refused`, `column_missing`.
        warnings: (word, sentence): it works, but somebody should look.
        headings: the headings or fields of the source.
        mapping: our fields and where each is found.
        sample: up to five rows as they would be read, cards as tails only; for the person who sets the source up.
    """

    failure: str | None
    detail: str
    warnings: tuple[tuple[str, str], ...] = ()
    headings: tuple[str, ...] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    sample: tuple[Mapping[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        return self.failure is None


class Connector(Protocol):
    """One configured source."""

    @property
    def capabilities(self) -> Capabilities: ...

    def check(self) -> CheckResult:
        """Test the source live; never raises for a source that fails."""
        ...

    def discover(self) -> Iterator[FieldSeen]:
        """Return the fields that the source offers.

        Raises:
            SourceUnreachable, SourceRefused: as for `fetch`.
        """
        ...

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Read the source.

        Args:
            lists: the lists to read (LISTS), empty for all that the source has.
            cursors: for each list the state of its last Checkpoint that was applied; a list without one is read whole.

        Raises:
            SourceUnreachable: no answer; the last good data stay in use.
            SourceRefused: the source rejected the request.
        """
        ...
