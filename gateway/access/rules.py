"""The decision: may this card pass here, now, and by which rule.

Law of this file: pure and total. Every path ends in a Decision with a reason of the closed list; the first reason that
denies, in the order written here, is the one reported. Nothing here reads a clock or waits.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from gateway.access.people import STAFF, CardEntry, CardState, Copies, PointRules, Roster, Rule, Stale, UnsetClock
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
    CARD_COPIED = "card_copied"
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
    CLOCK_UNSET = "clock_unset"
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
        looks_copied: whether this card has shown a sign of being a copy.
    """

    keys: tuple[bytes, ...] = ()
    refused: Reason | None = None
    looks_copied: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision is made, and how reliable that time is.

    Attributes:
        local: the site's local time, or the latest time known to be past when the clock is not trusted.
        clock_is_set: False while no source vouches for `local`; it is then a lower bound.
        roster_age_seconds: since the hub last confirmed the roster in force, None where that is not known.
    """

    local: datetime
    clock_is_set: bool = True
    roster_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one presentation.

    Attributes:
        key: the card key that was found, else the first one tried, None when there was none.
        rule: the name of the rule that granted, None when denied.
        roster: version of the roster that decided, None when there was none.
        groups: those of the person, for what a point offers; empty where no card was found.
    """

    granted: bool
    reason: Reason
    key: bytes | None = None
    person: str | None = None
    rule: str | None = None
    roster: int | None = None
    groups: frozenset[str] = frozenset()


def decide(
    card: Presentation,
    roster: Roster | None,
    point: str,
    moment: Moment,
    *,
    no_roster: Reason = Reason.ROSTER_MISSING,
) -> Decision:
    """Decide one presentation at a point.

    Args:
        no_roster: the reason to deny with when there is no roster.

    Returns:
        A denial with `no_roster` when there is no roster; never raises for a card.
    """
    first = card.keys[0] if card.keys else None
    version = roster.version if roster is not None else None
    if card.refused is not None:
        return Decision(False, card.refused, first, roster=version)
    if roster is None:
        return Decision(False, no_roster, first)
    key, entry = _find(card.keys, roster)
    if entry is None:
        return Decision(False, Reason.CARD_UNKNOWN, first, roster=version)
    rules = roster.point(point)
    reason, rule = _judge(entry, rules, roster, moment, looks_copied=card.looks_copied)
    return Decision(reason is Reason.OK, reason, key, entry.person, rule, version, entry.groups)


def _find(keys: tuple[bytes, ...], roster: Roster) -> tuple[bytes | None, CardEntry | None]:
    for key in keys:
        entry = roster.find(key)
        if entry is not None:
            return key, entry
    return None, None


def _judge(
    entry: CardEntry, rules: PointRules | None, roster: Roster, moment: Moment, *, looks_copied: bool
) -> tuple[Reason, str | None]:
    refusal = _judge_card(entry) or _judge_point(entry, rules, moment)
    if refusal is None and looks_copied and rules is not None and not _serves_copies(entry, rules.copies):
        refusal = Reason.CARD_COPIED
    if refusal is not None or rules is None:
        return refusal or Reason.NO_ACCESS, None
    mine = [rule for rule in rules.rules if not rule.groups or not rule.groups.isdisjoint(entry.groups)]
    if not mine:
        return Reason.NO_ACCESS, None
    if not moment.clock_is_set:
        return _judge_without_clock(mine, rules.unset_clock)
    for rule in mine:
        if applies(rule.schedule, roster.calendar, moment.local):
            return Reason.OK, rule.name
    return Reason.OUTSIDE_SCHEDULE, None


def _judge_card(entry: CardEntry) -> Reason | None:
    if entry.state is not CardState.ACTIVE:
        return _STATE_REASONS[entry.state]
    return None if entry.person_active else Reason.PERSON_INACTIVE


def _judge_point(entry: CardEntry, rules: PointRules | None, moment: Moment) -> Reason | None:
    if rules is None:
        return Reason.NO_ACCESS
    if rules.lockdown:
        return Reason.LOCKDOWN
    if _is_too_stale(entry, rules, moment):
        return Reason.ROSTER_STALE
    return _judge_days(entry, rules, moment)


def _is_too_stale(entry: CardEntry, rules: PointRules, moment: Moment) -> bool:
    age = moment.roster_age_seconds
    if rules.stale is Stale.WARN or age is None or age <= rules.stale_after_seconds:
        return False
    return rules.stale is Stale.DENY or STAFF not in entry.groups


def _serves_copies(entry: CardEntry, policy: Copies) -> bool:
    return policy is Copies.LOG or (policy is Copies.STAFF and STAFF in entry.groups)


def _judge_days(entry: CardEntry, rules: PointRules, moment: Moment) -> Reason | None:
    today = moment.local.date()
    if entry.valid_until and today > entry.valid_until:
        # Without a clock the real time is at least this late, so the validity has ended either way.
        return Reason.CARD_EXPIRED
    if entry.valid_from and today < entry.valid_from:
        if moment.clock_is_set:
            return Reason.CARD_EXPIRED
        return None if rules.unset_clock is UnsetClock.GRANT else Reason.CLOCK_UNSET
    return None


def _judge_without_clock(mine: list[Rule], policy: UnsetClock) -> tuple[Reason, str | None]:
    """Decide by a person's rules while the hour is unknown, following the point's policy."""
    for rule in mine:
        if policy is UnsetClock.GRANT or (policy is UnsetClock.RULES_WITHOUT_HOURS and not rule.schedule.windows):
            return Reason.OK, rule.name
    return Reason.CLOCK_UNSET, None
