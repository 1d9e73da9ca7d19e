"""The guard: decides which changes of a plan need a person's approval.

A truncated export, a wrong filter or a shifted column makes it look as if everybody had left the school. So removals
are held when there are too many of them; additions always go through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.hub.sync.known import Known
from gateway.hub.sync.operations import Move, Operation, Plan, Remove, Replace, Revoke, Update, plan_hash
from gateway.hub.sync.plan import Feed

_TAKING = (Move, Replace, Revoke)
_GROUP_LEAST = 10
_NAME_FIELDS = {"given_name", "family_name"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a run may remove; percentages are of the source's active people or of its cards in use.

    Attributes:
        floor: this many are always let through, so that small schools can work, but never more than a third.
        group_percent: of the people of one group, such as a year.
    """

    removals_percent: float = 5.0
    group_percent: float = 25.0
    cards_percent: float = 10.0
    names_percent: float = 20.0
    floor: int = 5

    def allows(self, count: int, of: int, percent: float) -> bool:
        return count <= max(1, min(max(self.floor, of * percent / 100), of / 3))


@dataclass(slots=True)
class Verdict:
    """A plan divided: `safe` may be applied, `held` needs approval, for `reasons`."""

    safe: list[Operation] = field(default_factory=list)
    held: list[Operation] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def plan(self) -> str:
        """Return the hash of the held operations, or of all when none are held."""
        return plan_hash(self.held or self.safe)


def judge(plan: Plan, feed: Feed, known: Known, limits: Limits) -> Verdict:
    """Divide a plan; a pure function of plan and state, so that an approval fits the next run."""
    verdict = Verdict()
    held_kinds: tuple[type, ...] = ()
    if reasons := _too_many_removals(plan, feed, known, limits):
        verdict.reasons += reasons
        held_kinds += (Remove,)
    if reasons := _too_many_cards(plan, known, limits):
        verdict.reasons += reasons
        held_kinds += _TAKING
    renames = [item for item in plan.operations if isinstance(item, Update) and _NAME_FIELDS & item.changes.keys()]
    active = sum(person.active for person in known.people.values())
    hold_renames = bool(renames) and not limits.allows(len(renames), active, limits.names_percent)
    if hold_renames:
        verdict.reasons.append(f"{len(renames)} of {active} people would change their names.")
    for operation in plan.operations:
        held = isinstance(operation, held_kinds) or (hold_renames and operation in renames)
        (verdict.held if held else verdict.safe).append(operation)
    return verdict


def _too_many_removals(plan: Plan, feed: Feed, known: Known, limits: Limits) -> list[str]:
    removals = [item for item in plan.operations if isinstance(item, Remove)]
    if not removals:
        return []
    nameless = sum(item.person_key is None for item in feed.unreadable)
    if nameless:
        return [f"{len(removals)} people are missing, and {nameless} unreadable rows may belong to them."]
    active = [person for person in known.people.values() if person.active]
    if not feed.read:
        return [f"The source is empty; all {len(active)} people would be removed."]
    if not limits.allows(len(removals), len(active), limits.removals_percent):
        return [f"{len(removals)} of {len(active)} people would be removed."]
    sizes = Counter(group for person in active for group in person.groups)
    losses = Counter(group for item in removals for group in item.groups)
    return [
        f"{lost} of {sizes[group]} people of group {group!r} would be removed."
        for group, lost in sorted(losses.items())
        if sizes[group] >= _GROUP_LEAST and not limits.allows(lost, sizes[group], limits.group_percent)
    ]


def _too_many_cards(plan: Plan, known: Known, limits: Limits) -> list[str]:
    taking = [item for item in plan.operations if isinstance(item, _TAKING)]
    in_use = sum(card.usable and card.origin == known.origin for card in known.cards.values())
    if not taking or limits.allows(len(taking), in_use, limits.cards_percent):
        return []
    return [f"{len(taking)} of {in_use} cards would be replaced, removed or given to another person."]


def read_limits(options: Mapping[str, Any]) -> Limits:
    """Read the guard's settings of a source; a missing or unusable one keeps its default."""
    limits = {}
    for option, name in LIMIT_OPTIONS.items():
        value = options.get(option)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            limits[name] = float(value)
    return Limits(**limits)  # type: ignore[arg-type]  # every key is a percentage


LIMIT_OPTIONS = {
    "hold_removals_percent": "removals_percent",
    "hold_group_percent": "group_percent",
    "hold_cards_percent": "cards_percent",
    "hold_names_percent": "names_percent",
}
