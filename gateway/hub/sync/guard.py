"""The guard: decides which changes of a plan need a person's approval; pure.

A truncated export, a wrong filter or a shifted column makes it look as if everybody had left the school, so what takes
away is held when there is too much of it. What gives more is held too: newcomers among the staff, second cards and
changed groups open doors. Everything else goes through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.hub.directory.sites import PERCENT_OPTIONS
from gateway.hub.sync.feed import Feed
from gateway.hub.sync.known import GONE, PRESENT, Known
from gateway.hub.sync.operations import (
    Create,
    Exclude,
    Join,
    Link,
    Move,
    Operation,
    Plan,
    Rekey,
    Remove,
    Replace,
    Return,
    Revoke,
    Update,
    plan_hash,
)
from gateway.mis.base import GROUP_FIELDS, HIDDEN

_TAKING = (Move, Replace, Revoke)
_GROUP_LEAST = 10
# Which changed fields each limit is about, and how it is told.
_CHANGES = (
    ("names_percent", ("given_name", "family_name"), "would change their names"),
    ("birth_dates_percent", ("birth_date",), "would change their birth dates"),
    ("emails_percent", ("email",), "would change their e-mail addresses"),
    ("groups_percent", ("groups", *GROUP_FIELDS), "would change their groups"),
    ("dates_percent", ("starts_on", "ends_on"), "would change the dates between which they belong to the school"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a run may change; percentages are of the people of the same role, or of the source's cards in use.

    Attributes:
        floor: this many are always let through, so that small schools can work, but never more than a third.
        group_percent: of the people of one group, such as a year, who may leave.
        staff_percent: of the staff, who may be new or come back.
        hidden_percent: whom the source may stop sharing; they do not count among the removals.
    """

    removals_percent: float = 5.0
    group_percent: float = 25.0
    cards_percent: float = 10.0
    names_percent: float = 20.0
    birth_dates_percent: float = 2.0
    emails_percent: float = 20.0
    groups_percent: float = 25.0
    dates_percent: float = 10.0
    staff_percent: float = 10.0
    hidden_percent: float = 5.0
    floor: int = 5

    def allows(self, count: int, of: int, percent: float) -> bool:
        return count <= max(1, min(max(self.floor, of * percent / 100), of / 3))


@dataclass(slots=True)
class Verdict:
    """A plan divided: `safe` may be applied, each of `held` needs approval for its own reason."""

    safe: list[Operation] = field(default_factory=list)
    held: list[Operation] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def plan(self) -> str:
        """Return the hash of the held operations, or of all when none are held."""
        return plan_hash(self.held or self.safe)


def judge(plan: Plan, feed: Feed, known: Known, limits: Limits, *, is_first: bool = False) -> Verdict:
    """Divide a plan.

    Args:
        is_first: nobody has let this source's people in yet, so everything is held.
    """
    if is_first:
        why = "This is the first read of this source; look at what it found before its people are let in."
        return Verdict(held=plan.operations, why=[why] * len(plan.operations), reasons=[why] if plan.operations else [])
    held: dict[int, str] = {}
    verdict = Verdict()
    for why, operations in _findings(plan, feed, known, limits):
        verdict.reasons.append(why)
        for operation in operations:
            held.setdefault(id(operation), why)
    _hold_with_their_people(plan, held)
    for operation in plan.operations:
        if id(operation) in held:
            verdict.held.append(operation)
            verdict.why.append(held[id(operation)])
        else:
            verdict.safe.append(operation)
    return verdict


def _findings(plan: Plan, feed: Feed, known: Known, limits: Limits) -> Iterable[tuple[str, list[Operation]]]:
    if plan.rekeyed:
        whole = (Create, Rekey, Remove, Move, Join, Return)
        yield plan.rekeyed, [item for item in plan.operations if isinstance(item, whole)]
    yield from _mixed_up(plan, known, limits)
    yield from _removals(plan, feed, known, limits)
    taking: list[Operation] = [item for item in plan.operations if isinstance(item, _TAKING)]
    in_use = sum(card.usable and card.origin == known.origin for card in known.cards.values())
    if taking and not limits.allows(len(taking), in_use, limits.cards_percent):
        yield f"{len(taking)} of {in_use} cards would be replaced, removed or given to another person.", taking
    for limit, names, words in _CHANGES:
        changed = [item for item in plan.operations if isinstance(item, Update) and item.changes.keys() & set(names)]
        people = known.present
        if changed and not limits.allows(len(changed), people, getattr(limits, limit)):
            yield f"{len(changed)} of {people} people {words}.", list(changed)
    yield from _growth(plan, known, limits)


def _mixed_up(plan: Plan, known: Known, limits: Limits) -> Iterable[tuple[str, list[Operation]]]:
    """Find a read whose ids stand beside other people: then the few that seem to fit do so by chance."""
    strangers = sum(item.kind in {"id_reused", "id_swapped"} for item in plan.conflicts)
    if limits.allows(strangers, known.present, limits.removals_percent):
        return
    doubtful: list[Operation] = [
        item for item in plan.operations if isinstance(item, Update | Rekey | Link | Replace | Revoke | Move)
    ]
    if doubtful:
        yield f"{strangers} of {known.present} ids stand beside other people; a column may have been moved.", doubtful


def _removals(plan: Plan, feed: Feed, known: Known, limits: Limits) -> Iterable[tuple[str, list[Operation]]]:
    removals = [item for item in plan.operations if isinstance(item, Remove | Exclude)]
    if not removals:
        return
    nameless = sum(item.person_key is None for item in feed.unreadable)
    absent: list[Operation] = [item for item in removals if isinstance(item, Remove) and not item.at_once]
    if nameless and absent:
        yield f"{len(absent)} people are missing, and {nameless} unreadable rows may belong to them.", absent
    present = [claim for claim in known.claims.values() if claim.state == PRESENT]
    if not feed.read:
        yield f"The source is empty; all {len(removals)} people would be removed.", list(removals)
        return
    # Those who were missing before are not counted again; they were counted when they first were.
    of_role = Counter(claim.entity for claim in present)
    for role in sorted(of_role):
        some = [item for item in removals if known.claims[item.person].entity == role]
        hidden: list[Operation] = [item for item in some if isinstance(item, Remove) and item.why == HIDDEN]
        others: list[Operation] = [item for item in some if not isinstance(item, Remove) or item.why != HIDDEN]
        noun = {"student": "pupils", "staff": "members of staff"}.get(role, f"{role}s")
        if others and not limits.allows(len(others), of_role[role], limits.removals_percent):
            yield f"{len(others)} of {of_role[role]} {noun} would be removed.", others
        if hidden and not limits.allows(len(hidden), of_role[role], limits.hidden_percent):
            yield f"{len(hidden)} of {of_role[role]} {noun} are no longer shared by the source.", hidden
    losses = Counter(group for item in removals for group in item.groups)
    if not losses:
        return
    sizes: Counter[str] = Counter()
    for claim in present:
        sizes.update(claim.fields.all_groups)
    for group, lost in sorted(losses.items()):
        if sizes[group] >= _GROUP_LEAST and not limits.allows(lost, sizes[group], limits.group_percent):
            out: list[Operation] = [item for item in removals if group in item.groups]
            yield f"{lost} of {sizes[group]} people of group {group!r} would be removed.", out


def _growth(plan: Plan, known: Known, limits: Limits) -> Iterable[tuple[str, list[Operation]]]:
    """Find what raises rights: a feed that somebody tampered with adds, it does not take away."""
    staff = sum(claim.entity == "staff" and claim.state != GONE for claim in known.claims.values())
    added: list[Operation] = [
        item
        for item in plan.operations
        if (isinstance(item, Create | Join) and item.entity == "staff")
        or (isinstance(item, Return) and item.was == GONE and known.claims[item.person].entity == "staff")
    ]
    if added and known.present and not limits.allows(len(added), staff, limits.staff_percent):
        yield f"{len(added)} people would be new among {staff} members of staff.", added
    second = [item for item in plan.operations if isinstance(item, Link) and item.second]
    of_staff: list[Operation] = [item for item in second if item.entity == "staff"]
    if of_staff:
        yield f"{len(of_staff)} members of staff would get a second card beside the one in use.", of_staff
    in_use = sum(card.usable for card in known.cards.values())
    if second and not limits.allows(len(second), in_use, limits.cards_percent):
        yield f"{len(second)} people would get a second card beside the one in use.", list(second)


def _hold_with_their_people(plan: Plan, held: dict[int, str]) -> None:
    """Hold the cards of people who are held themselves: there is nobody to give them to yet."""
    waiting = {
        (item.entity, item.person_key): held[id(item)]
        for item in plan.operations
        if isinstance(item, Create | Join | Rekey) and id(item) in held
    }
    for item in plan.operations:
        if isinstance(item, Link | Replace | Revoke | Move) and (why := waiting.get((item.entity, item.person_key))):
            held.setdefault(id(item), why)


def read_limits(options: Mapping[str, Any]) -> Limits:
    """Read the guard's settings of a source; a missing or unusable one keeps its default."""
    limits = {}
    for option, name in LIMIT_OPTIONS.items():
        value = options.get(option)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            limits[name] = float(value)
    return Limits(**limits)  # type: ignore[arg-type]  # every key is a percentage


LIMIT_OPTIONS = {option: option.removeprefix("hold_") for option in PERCENT_OPTIONS}
