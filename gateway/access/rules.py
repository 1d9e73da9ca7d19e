"""The decision: may this card pass here, now, and by which rule.

Law of this file: pure and total. Every path ends in a Decision with a reason of the closed list; the first reason that
denies, in the order written here, is the one that is told. Nothing here reads a clock or waits.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from gateway.access.people import CardEntry, CardState, PointRules, Roster
from gateway.access.schedule import applies


class Reason(enum.StrEnum):
    """Why a tap was granted or denied; a closed list, extended only by a release."""

    OK = "ok"
    CARD_UNKNOWN = "card_unknown"
    CARD_PRELINKED = "card_prelinked"
    CARD_BLOCKED = "card_blocked"
    CARD_LOST = "card_lost"
    CARD_REPLACED = "card_replaced"
    CARD_EXPIRED = "card_expired"
    CARD_RANDOM_UID = "card_random_uid"
    CARD_FORMAT = "card_format"
    PERSON_INACTIVE = "person_inactive"
    NO_ACCESS = "no_access"
    OUTSIDE_SCHEDULE = "outside_schedule"
    PASSBACK = "passback"
    LOCKDOWN = "lockdown"
    ROSTER_MISSING = "roster_missing"
    SITE_KEY_MISSING = "site_key_missing"
    ROSTER_STALE = "roster_stale"
    LIMIT_REACHED = "limit_reached"
    FUNDS = "funds"


_STATE_REASONS = {
    CardState.PRELINKED: Reason.CARD_PRELINKED,
    CardState.BLOCKED: Reason.CARD_BLOCKED,
    CardState.LOST: Reason.CARD_LOST,
    CardState.REPLACED: Reason.CARD_REPLACED,
}


@dataclass(frozen=True, slots=True)
class Presentation:
    """A card at a reader, as the decision sees it.

    Attributes:
        keys: card keys to try, one a projection in use, in the roster's order; empty when `refused` is set.
        refused: why the reader could not take the card as an identity, None when it could.
    """

    keys: tuple[bytes, ...] = ()
    refused: Reason | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one presentation.

    Attributes:
        key: the card key that was found, else the first one tried, None when there was none.
        rule: the name of the rule that granted, None when denied.
        roster: version of the roster that decided, None when there was none.
    """

    granted: bool
    reason: Reason
    key: bytes | None = None
    person: str | None = None
    rule: str | None = None
    roster: int | None = None


def decide(card: Presentation, roster: Roster | None, point: str, local: datetime) -> Decision:
    """Decide one presentation at a point.

    Args:
        local: the site's local time, or the latest time known to be past when the clock is not trusted.

    Returns:
        A denial with `roster_missing` when there is no roster; never raises for a card.
    """
    first = card.keys[0] if card.keys else None
    version = roster.version if roster is not None else None
    if card.refused is not None:
        return Decision(False, card.refused, first, roster=version)
    if roster is None:
        return Decision(False, Reason.ROSTER_MISSING, first)
    key, entry = _find(card.keys, roster)
    if entry is None:
        return Decision(False, Reason.CARD_UNKNOWN, first, roster=version)
    rules = roster.point(point)
    reason, rule = _judge(entry, rules, roster, local)
    return Decision(reason is Reason.OK, reason, key, entry.person, rule, version)


def _find(keys: tuple[bytes, ...], roster: Roster) -> tuple[bytes | None, CardEntry | None]:
    for key in keys:
        entry = roster.find(key)
        if entry is not None:
            return key, entry
    return None, None


def _judge(entry: CardEntry, rules: PointRules | None, roster: Roster, local: datetime) -> tuple[Reason, str | None]:
    if entry.state is not CardState.ACTIVE:
        return _STATE_REASONS[entry.state], None
    if not entry.person_active:
        return Reason.PERSON_INACTIVE, None
    today = local.date()
    if (entry.valid_from and today < entry.valid_from) or (entry.valid_until and today > entry.valid_until):
        return Reason.CARD_EXPIRED, None
    if rules is None:
        return Reason.NO_ACCESS, None
    if rules.lockdown:
        return Reason.LOCKDOWN, None
    allowed = False
    for rule in rules.rules:
        if rule.groups and rule.groups.isdisjoint(entry.groups):
            continue
        allowed = True
        if applies(rule.schedule, roster.calendar, local):
            return Reason.OK, rule.name
    return (Reason.OUTSIDE_SCHEDULE if allowed else Reason.NO_ACCESS), None
