"""One read of a source, gathered and bounded: its records by person, and which lists it read to their end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from gateway.hub.directory.names import name_key, parts
from gateway.hub.sync.known import KEY, Known
from gateway.hub.sync.match import Key, Same, conflict_of, is_same
from gateway.hub.sync.operations import Plan
from gateway.mis.base import (
    GROUP_FIELDS,
    LISTS,
    Checkpoint,
    Complete,
    Ended,
    FeedItem,
    Gone,
    Notice,
    Record,
    Shape,
    Unreadable,
)

_TOLD_EVERY = 1000


@dataclass(slots=True)
class ListRead:
    """How far one list was read; `complete` that absence from it means something."""

    read: int = 0
    expected: int | None = None
    complete: bool = False


@dataclass(slots=True)
class Feed:
    """One read of a source, gathered.

    Attributes:
        complete: every list was read to its end, and the source's own counts agree.
        is_delta: of some list only the changes were read: what this read does not name is not over.
        checkpoints: of the lists that were read to their end.
        complete_roles: whose absence from this read means that they have left.
        read: how many people or faulty rows were read.
        shape: our fields and where the source has them; a field in it that a record leaves empty is empty there too.
    """

    records: list[Record] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    checkpoints: dict[str, str] = field(default_factory=dict)
    shape: Mapping[str, str] = field(default_factory=dict)
    lists: dict[str, ListRead] = field(default_factory=dict)
    complete_roles: frozenset[str] = frozenset()
    complete: bool = False
    is_delta: bool = False
    read: int = 0


def gather(items: Iterable[FeedItem], progress: Callable[[int], None] = lambda _count: None) -> Feed:
    """Gather a feed; a count that does not agree leaves its list incomplete.

    Args:
        progress: called now and then with how many rows were read.
    """
    feed = Feed()
    places: set[str] = set()
    since: set[str] = set()
    ends = 0
    short = False
    roles: set[str] = set()
    for item in items:
        match item:
            case Record() | Gone() | Unreadable():
                _add(feed, item)
                places.add(item.place)
                since.add(item.place)
                if len(places) % _TOLD_EVERY == 0:
                    progress(len(places))
            case Notice():
                feed.notices.append(item.text)
            case Shape():
                feed.shape = item.headings
            case Checkpoint():
                feed.checkpoints[item.list] = item.state
            case Complete():
                ends += 1
                agrees = item.expected is None or item.expected == len(since)
                feed.lists[item.list] = ListRead(len(since), item.expected, agrees)
                if agrees:
                    roles.update(LISTS[item.list])
                else:
                    short = True
                    feed.checkpoints.pop(item.list, None)
                    feed.notices.append(
                        f"The source reports {item.expected} rows but sent {len(since)}: nobody is removed."
                    )
                since = set()
            case Ended():
                ends += 1
                feed.lists[item.list] = ListRead(len(since))
                feed.is_delta = True
                since = set()
    feed.checkpoints = {name: state for name, state in feed.checkpoints.items() if name in feed.lists}
    feed.read = len(places)
    feed.complete = ends > 0 and not since and not short
    feed.complete_roles = frozenset(roles)
    return feed


def _add(feed: Feed, item: Record | Gone | Unreadable) -> None:
    match item:
        case Record():
            feed.records.append(item)
        case Gone():
            feed.gone.append(item)
        case Unreadable():
            feed.unreadable.append(item)


def by_person(feed: Feed, known: Known, plan: Plan) -> dict[Key, Record]:
    """Return one record a person: rows that differ in group or card are merged, two people under one id are told."""
    records = _without_placeholders(feed.records, plan)
    merged: dict[Key, Record] = {}
    twice: dict[Key, Record] = {}
    for row in sorted(records, key=lambda item: (item.role, item.person_key, item.place)):
        key, record = (row.role, row.person_key), _each_card_once(row)
        first = merged.setdefault(key, record)
        if first is record:
            continue
        if not _one_human(first, record):
            twice[key] = record
        else:
            merged[key] = _merged(first, record)
    for key, record in twice.items():
        first = merged.pop(key)
        why = f"Two different people have this id ({first.place} and {record.place}); correct one in the source."
        own = known.ids.get((key[0], KEY, key[1]))
        ref = own.person if own and not own.retired else None
        plan.conflicts.append(conflict_of("duplicate_key", record, why, known, ref))
    return merged


def _each_card_once(record: Record) -> Record:
    """Return a record without the second mention of a card, as when two columns hold the same number."""
    claims = {claim.key: claim for claim in record.cards or ()}
    if record.cards is None or len(claims) == len(record.cards):
        return record
    return replace(record, cards=tuple(claims[key] for key in sorted(claims)))


def _without_placeholders(records: list[Record], plan: Plan) -> list[Record]:
    """Drop a lasting id that several people of one read share: it is a placeholder, not an id."""
    owners: dict[Key, dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record.stable_id:
            owners[record.role, record.stable_id].setdefault(record.person_key, record)
    # A person who is there under two ids is the matcher's to judge; different people sharing one are not.
    shared = {key for key, some in owners.items() if len(some) > 1 and _differ(list(some.values()))}
    if not shared:
        return records
    # A page that came twice holds the same rows.
    dropped = {record.place for record in records if (record.role, record.stable_id or "") in shared}
    plan.notices.append(
        f"{len(dropped)} rows share their lasting id with somebody else; it is taken for a placeholder and ignored."
    )
    return [
        replace(record, stable_id=None) if (record.role, record.stable_id or "") in shared else record
        for record in records
    ]


def _differ(records: list[Record]) -> bool:
    return any(is_same(records[0].fields, other.fields) is not Same.YES for other in records[1:])


def _one_human(one: Record, other: Record) -> bool:
    if one.stable_id and other.stable_id and one.stable_id != other.stable_id:
        return False
    a, b = one.fields, other.fields
    if a.birth_date and b.birth_date and a.birth_date != b.birth_date:
        return False
    # Rows of one read repeat the names to the letter; a shared given name alone may be another child.
    if name_key(a.given_name, a.family_name) == name_key(b.given_name, b.family_name):
        return True
    return a.birth_date is not None and a.birth_date == b.birth_date and parts(a.given_name) == parts(b.given_name)


def _merged(first: Record, other: Record) -> Record:
    fields = first.fields
    changes = {
        name: getattr(other.fields, name)
        for name in fields.__struct_fields__
        if getattr(fields, name) is None and getattr(other.fields, name) is not None
    }
    groups = {*(fields.groups or ()), *(other.fields.groups or ())}
    if groups:
        changes["groups"] = tuple(sorted(groups))
    for name in GROUP_FIELDS:
        # A second class is a group like any other.
        one, two = getattr(fields, name), getattr(other.fields, name)
        if one and two and one != two:
            changes["groups"] = tuple(sorted({*changes.get("groups", ()), two}))
    cards = first.cards
    if other.cards is not None:
        claims = {claim.key: claim for claim in (first.cards or ()) + other.cards}
        cards = tuple(claims[key] for key in sorted(claims))
    merged = msgspec.structs.replace(fields, **changes) if changes else fields
    return replace(first, fields=merged, cards=cards, stable_id=first.stable_id or other.stable_id)
