"""What a gateway knows about a card and its holder: states, groups, dates; never a name or a number."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from gateway.access.schedule import Calendar, Schedule


class CardState(enum.IntEnum):
    """The states of a card; the numbers are stored in roster files and never reused."""

    ACTIVE = 1
    PRELINKED = 2
    BLOCKED = 3
    LOST = 4
    REPLACED = 5


# The rules under this name apply at every point without rules of its own.
EVERY_POINT = "*"
# The group of everybody whose role is staff; a person's role is one of their groups.
STAFF = "staff"


@dataclass(frozen=True, slots=True)
class CardEntry:
    """One card of the roster.

    Attributes:
        person: the hub's reference `p_` and 16 hex digits, None for a card that belongs to nobody yet.
        groups: names of access groups.
        valid_from: first day on which the card works, None for no bound.
        valid_until: last day on which the card works, None for no bound.
        person_active: False when the person has left or is suspended.
    """

    person: str | None
    state: CardState
    groups: frozenset[str]
    valid_from: date | None
    valid_until: date | None
    person_active: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Lets the members of some groups pass at a point during a schedule; an empty group set means everybody."""

    name: str
    groups: frozenset[str]
    schedule: Schedule


def fold_group(text: str) -> str:
    """Return the name of a group as rules compare it: NFC, single spaces, case folded; accents count."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


class UnsetClock(enum.StrEnum):
    """What a point does while the clock is not set, so that hours and days cannot be checked."""

    RULES_WITHOUT_HOURS = "rules-without-hours"
    GRANT = "grant"
    DENY = "deny"


class Stale(enum.StrEnum):
    """What a point does once the hub has not confirmed the roster for too long."""

    WARN = "warn"
    STAFF = "staff"
    DENY = "deny"


class Copies(enum.StrEnum):
    """Whom a point serves of those whose card showed a sign of being a copy."""

    LOG = "log"
    STAFF = "staff"
    DENY = "deny"


STALE_AFTER_SECONDS = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class PointRules:
    """The rules of one point, tried in order; no rule that fits means no access.

    Attributes:
        unset_clock: which rules apply while the clock is unset.
        stale: who still passes once the roster is older than `stale_after_seconds`.
        copies: who still passes with a card that looks like a copy.
    """

    rules: tuple[Rule, ...]
    lockdown: bool = False
    unset_clock: UnsetClock = UnsetClock.RULES_WITHOUT_HOURS
    stale: Stale = Stale.WARN
    stale_after_seconds: float = STALE_AFTER_SECONDS
    copies: Copies = Copies.LOG


@dataclass(frozen=True, slots=True)
class KioskAction:
    """What a person may choose at a kiosk after a tap, such as leaving for an appointment.

    Attributes:
        kind: `sign` changes who is in, `check` does not.
        points: the kiosks that offer it, empty for all.
        groups: for whom, by the names that rules use; empty for everybody.
    """

    id: str
    name: str
    kind: str
    direction: str
    points: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()

    def is_offered(self, point: str, groups: frozenset[str]) -> bool:
        """Return whether a kiosk offers it to somebody with these groups."""
        return (not self.points or point in self.points) and (not self.groups or not self.groups.isdisjoint(groups))


class Roster(Protocol):
    """The parts of the roster in force that a decision needs."""

    @property
    def version(self) -> int:
        """Return the generation number, which only rises."""
        ...

    @property
    def calendar(self) -> Calendar: ...

    @property
    def projections(self) -> tuple[str, ...]:
        """Return the card number projections in use, `uid` first."""
        ...

    def find(self, key: bytes) -> CardEntry | None:
        """Look up a card by its 16-byte key."""
        ...

    def point(self, name: str) -> PointRules | None:
        """Return the rules of a point, else those of EVERY_POINT, None when the roster has neither."""
        ...
