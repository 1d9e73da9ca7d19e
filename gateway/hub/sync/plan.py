"""Compares a source with the directory and makes a plan; pure and without a clock.

The same feed in any order gives the same plan, and after a plan was applied the next one is empty. Absence means that
somebody left only after a complete read. An id is never reused for another person; two people are distinguished by
their stable id where the source has one, else by their names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from gateway.hub.sync.known import KEY, STABLE, Known, KnownPerson
from gateway.hub.sync.operations import Conflict, Create, Operation, Plan, Remove, Update
from gateway.hub.sync.plan_cards import CardWish, plan_cards
from gateway.mis.base import Capabilities, Checkpoint, Complete, FeedItem, Notice, Record, Unreadable

_SAME_PERSON = 0.6


@dataclass(slots=True)
class Feed:
    """One read of a source, gathered.

    Attributes:
        complete: the source was read to its end, and its own count agrees.
        read: how many people or faulty rows were read.
    """

    records: list[Record] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    checkpoint: str | None = None
    complete: bool = False
    read: int = 0


def gather(items: Iterable[FeedItem]) -> Feed:
    """Gather a feed; a count that does not agree makes it incomplete."""
    feed = Feed()
    places: set[str] = set()
    for item in items:
        match item:
            case Record():
                feed.records.append(item)
                places.add(item.place)
            case Unreadable():
                feed.unreadable.append(item)
                places.add(item.place)
            case Notice():
                feed.notices.append(item.text)
            case Checkpoint():
                feed.checkpoint = item.state
            case Complete():
                feed.complete = item.expected is None or item.expected == len(places)
                if not feed.complete:
                    feed.notices.append(
                        f"The source reports {item.expected} rows but sent {len(places)}: nobody is removed."
                    )
    feed.read = len(places)
    return feed


def make_plan(feed: Feed, known: Known, capabilities: Capabilities) -> Plan:
    """Compare a feed with what is known."""
    plan = Plan(notices=list(feed.notices))
    records = _one_a_person(feed.records, plan)
    matches, strangers = _match(records, known, plan)
    for record in sorted(strangers, key=lambda item: item.person_key):
        plan.operations.append(_create(record))
    for ref, record in sorted(matches.items()):
        plan.operations.extend(_update(known.people[ref], record, known))
    if feed.complete:
        plan.operations.extend(_removals(feed, matches, known, capabilities, plan))
    wishes = [CardWish(None, record) for record in strangers]
    wishes += [CardWish(ref, record) for ref, record in matches.items()]
    plan_cards(wishes, known, plan)
    plan.conflicts.sort(key=lambda item: (item.kind, item.person_key, item.place))
    return plan


def _one_a_person(records: list[Record], plan: Plan) -> dict[str, Record]:
    # Rows of one person that differ only in the card are several cards of that person.
    merged: dict[str, Record] = {}
    twice: dict[str, Record] = {}
    for record in sorted(records, key=lambda item: (item.person_key, item.place)):
        first = merged.setdefault(record.person_key, record)
        if first is record:
            continue
        if replace(record, cards=first.cards, place=first.place) != first:
            twice[record.person_key] = record
        elif record.cards:
            claims = {claim.key: claim for claim in (first.cards or ()) + record.cards}
            merged[record.person_key] = replace(first, cards=tuple(claims[key] for key in sorted(claims)))
    for key, record in twice.items():
        first = merged.pop(key)
        why = f"Two different people have this id ({first.place} and {record.place})."
        plan.conflicts.append(Conflict("duplicate_key", key, record.place, why))
    return merged


def _match(records: Mapping[str, Record], known: Known, plan: Plan) -> tuple[dict[str, Record], list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    strangers: list[Record] = []
    for record in records.values():
        ref, conflict = _who(record, records, known)
        if conflict:
            plan.conflicts.append(conflict)
        elif ref is None:
            strangers.append(record)
        else:
            found[ref].append(record)
    matches = {}
    for ref, claims in found.items():
        if len(claims) == 1:
            matches[ref] = claims[0]
            continue
        for record in claims:
            why = "Two rows with different ids claim to be the same person."
            plan.conflicts.append(Conflict("id_reused", record.person_key, record.place, why))
    return matches, _new_people(strangers, plan)


def _new_people(strangers: list[Record], plan: Plan) -> list[Record]:
    by_stable: dict[str, list[Record]] = defaultdict(list)
    for record in strangers:
        if record.stable_id:
            by_stable[record.stable_id].append(record)
    shared = {record.person_key for some in by_stable.values() if len(some) > 1 for record in some}
    for record in strangers:
        if record.person_key in shared:
            why = "Two new people have the same stable id."
            plan.conflicts.append(Conflict("id_reused", record.person_key, record.place, why))
    return [record for record in strangers if record.person_key not in shared]


def _who(record: Record, records: Mapping[str, Record], known: Known) -> tuple[str | None, Conflict | None]:
    by_key, retired = known.ids.get((KEY, record.person_key), (None, False))
    by_stable = known.ids.get((STABLE, record.stable_id), (None, False))[0] if record.stable_id else None
    if by_key is None:
        return by_stable, None
    if by_stable is not None:
        if by_stable == by_key:
            return by_key, None
        return None, _conflict("id_swapped", record, "The stable id in this row belongs to another person.")
    if retired:
        return None, _conflict("id_reused", record, "This id belonged to another person before; ids are never reused.")
    person = known.people[by_key]
    known_stable = known.stable_of.get(by_key)
    if record.stable_id and known_stable:
        return None, _conflict("id_reused", record, "The stable id of this person has changed.")
    if _same_names(person, record):
        return by_key, None
    if _is_swap(person, record, records, known):
        return None, _conflict("id_swapped", record, "Two people have swapped ids.")
    return None, _conflict("id_reused", record, "This id now has another name; ids are never reused.")


def _conflict(kind: str, record: Record, why: str) -> Conflict:
    return Conflict(kind, record.person_key, record.place, why)


def _same_names(person: KnownPerson, record: Record) -> bool:
    # A marriage, a nickname, a corrected accent or swapped columns keep half of a name or most of its letters.
    old = (person.given_name.casefold(), person.family_name.casefold())
    new = (record.given_name.casefold(), record.family_name.casefold())
    if old[0] == new[0] or old[1] == new[1] or old == new[::-1]:
        return True
    return SequenceMatcher(None, " ".join(old), " ".join(new), autojunk=False).ratio() >= _SAME_PERSON


def _is_swap(person: KnownPerson, record: Record, records: Mapping[str, Record], known: Known) -> bool:
    own_name = (person.given_name, person.family_name)
    for other in records.values():
        if (other.given_name, other.family_name) == own_name and other.person_key != record.person_key:
            ref, _ = known.ids.get((KEY, other.person_key), (None, False))
            if ref and _same_names(known.people[ref], record):
                return True
    return False


def _create(record: Record) -> Create:
    return Create(
        record.person_key, record.role, record.given_name, record.family_name, record.groups, record.stable_id
    )


def _update(person: KnownPerson, record: Record, known: Known) -> list[Operation]:
    changes: dict[str, tuple[object, object]] = {}
    for name in ("person_key", "role", "given_name", "family_name", "groups"):
        old, new = getattr(person, name), getattr(record, name)
        if old != new:
            changes[name] = (old, new)
    if record.stable_id and person.ref not in known.stable_of:
        changes["stable_id"] = (None, record.stable_id)
    if not person.active:
        changes["active"] = (False, True)
    return [Update(person.ref, record.person_key, changes)] if changes else []


def _removals(
    feed: Feed, matches: Mapping[str, Record], known: Known, capabilities: Capabilities, plan: Plan
) -> list[Operation]:
    # A person named in a faulty row or a conflict is present, but that row cannot be used.
    named = {item.person_key for item in feed.unreadable} | {item.person_key for item in plan.conflicts}
    named |= {record.person_key for record in feed.records}
    removals: list[Operation] = []
    staff_absent = 0
    for ref, person in sorted(known.people.items()):
        if not person.active or ref in matches or person.person_key in named:
            continue
        if person.role == "staff" and not capabilities.removes_staff:
            staff_absent += 1
            continue
        removals.append(Remove(ref, person.person_key, person.groups))
    if staff_absent:
        plan.notices.append(f"{staff_absent} members of staff are no longer in the source; they are not removed.")
    return removals
