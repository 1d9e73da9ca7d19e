"""Who is who: finds the person of each record, or the reason why only somebody of the school can; pure and linear.

Ids are compared within one source and one role, the lasting one first; a retired id is never another person's. Names
alone and card numbers join nobody. Two records are of the same human when

- both birth dates are known: when they are equal and one of the names is;
- else: when the given names are equal, or both names are after accents, spaces, hyphens and their order.

A family name alone proves nothing: brothers and sisters share it. A lasting id and a birth date are two independent
facts, whatever the names: such a person is recognised, and reported.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import msgspec

from gateway.hub.directory.names import name_key, parts
from gateway.hub.sync.known import GONE, KEY, STABLE, Known, KnownClaim, KnownPerson
from gateway.hub.sync.operations import Conflict
from gateway.mis.base import PersonFields, Record

Key = tuple[str, str]


class Same(Enum):
    """Whether two descriptions are of one human."""

    YES = "yes"
    NO = "no"
    MIXED_UP = "mixed up"


@dataclass(slots=True)
class Matches:
    """Every record by what becomes of it.

    Attributes:
        people: reference -> its record, for people whom this source knows already.
        joined: reference -> its record, for people of other sources or other ids.
        new: records of newcomers.
        by_birth_date: of `people` and `joined`, those whom a lasting id and the birth date prove under other names.
        in_other_roles: newcomers with the names and birth date of somebody in another role.
    """

    people: dict[str, Record] = field(default_factory=dict)
    joined: dict[str, Record] = field(default_factory=dict)
    new: list[Record] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    by_birth_date: list[Record] = field(default_factory=list)
    in_other_roles: list[tuple[Record, KnownPerson]] = field(default_factory=list)


def is_same(known: KnownPerson | PersonFields, new: PersonFields) -> Same:
    """Judge whether a record describes a person."""
    given = parts(known.given_name) == parts(new.given_name) != ""
    both = name_key(known.given_name, known.family_name) == name_key(new.given_name, new.family_name)
    if known.birth_date is None or new.birth_date is None:
        return Same.YES if given or both else Same.NO
    if known.birth_date == new.birth_date:
        family = parts(known.family_name) == parts(new.family_name) != ""
        return Same.YES if given or both or family else Same.NO
    one, other = known.birth_date, new.birth_date
    exchanged = one.year == other.year and (one.month, one.day) == (other.day, other.month)
    return Same.MIXED_UP if exchanged and (given or both) else Same.NO


def _is_born_alike(known: KnownPerson | PersonFields, new: PersonFields) -> bool:
    return known.birth_date is not None and known.birth_date == new.birth_date


def digest(record: Record) -> str:
    """Return the digest of what a source says about a person, cards left out."""
    statement = (record.person_key, record.stable_id or "", record.fields)
    return hashlib.sha256(msgspec.json.encode(statement, order="deterministic")).hexdigest()[:16]


def describe(record: Record) -> str:
    """Return what a source says about a person, in words for whoever decides."""
    fields = record.fields
    words = [fields.name]
    if fields.birth_date:
        words.append(f"born {fields.birth_date}")
    words += [text for text in (fields.year, fields.form) if text]
    if record.cards:
        words.append("card ending " + ", ".join(claim.tail for claim in record.cards))
    return ", ".join(words)


def match_all(records: Mapping[Key, Record], known: Known, *, by_id_only: bool = False) -> Matches:
    """Find the person of every record.

    Args:
        by_id_only: records without names, as a list of cards has them: an id joins, nothing else is compared.
    """
    matcher = _Matcher(records, known)
    found = Matches()
    claimed: dict[str, list[Record]] = defaultdict(list)
    newcomers: list[Record] = []
    for key in sorted(records):
        record = records[key]
        if by_id_only:
            ref = matcher.by_id(record)
            if ref:
                claimed[ref].append(record)
            else:
                found.new.append(record)
            continue
        outcome = matcher.who(record)
        if isinstance(outcome, Conflict):
            found.conflicts.append(outcome)
        elif outcome is None:
            newcomers.append(record)
        else:
            claimed[outcome].append(record)
    for ref, some in claimed.items():
        if len(some) > 1:
            why = "Two rows with different ids claim to be the same person; keep one of them in the source."
            found.conflicts += [conflict_of("id_reused", record, why, known, ref) for record in some]
        elif ref in known.claims:
            found.people[ref] = some[0]
        else:
            found.joined[ref] = some[0]
    _newcomers(newcomers, matcher, found, known)
    taken = {id(record) for some in (found.people, found.joined) for record in some.values()}
    found.by_birth_date = [record for record in matcher.by_birth_date if id(record) in taken]
    found.in_other_roles = [(record, other) for record in found.new if (other := matcher.in_other_role(record))]
    return found


def _newcomers(newcomers: list[Record], matcher: _Matcher, found: Matches, known: Known) -> None:
    taken = set(found.people) | set(found.joined)
    joins: dict[str, list[Record]] = defaultdict(list)
    of_stable = Counter((record.role, record.stable_id or "") for record in newcomers)
    for record in newcomers:
        if record.stable_id and of_stable[record.role, record.stable_id] > 1:
            why = "Two new people have the same lasting id; correct one in the source."
            found.conflicts.append(conflict_of("id_reused", record, why, known))
            continue
        outcome = matcher.elsewhere(record, taken)
        if isinstance(outcome, Conflict):
            found.conflicts.append(outcome)
        elif outcome is None:
            found.new.append(record)
        else:
            joins[outcome].append(record)
    for ref, some in joins.items():
        if len(some) == 1 and ref not in taken:
            # Under another id of the same source it is a change of the id.
            (found.people if ref in known.claims else found.joined)[ref] = some[0]
            continue
        why = "Two rows with different ids look like one person; keep one of them in the source."
        found.conflicts += [conflict_of("maybe_same", record, why, known, ref) for record in some]


def conflict_of(kind: str, record: Record, why: str, known: Known, ref: str | None = None) -> Conflict:
    """Make a conflict; it is urgent where a usable card of the person is no longer claimed."""
    lost = []
    if ref and record.cards is not None:
        claimed = {claim.key for claim in record.cards}
        lost = [
            card.tail
            for card in known.cards_of.get(ref, ())
            if card.usable and card.origin == known.origin and card.key not in claimed
        ]
    person = known.people.get(ref) if ref else None
    if lost and person is not None and person.state in {"active", "missing"}:
        tails = " and ".join(sorted(lost))
        why += f" Decide this first: the card ending {tails} still opens as {person.name}, and is not in the source."
    return Conflict(
        kind,
        record.role,
        record.person_key,
        record.place,
        why,
        ref,
        describe(record),
        digest(record),
        is_urgent=bool(lost),
    )


class _Matcher:
    def __init__(self, records: Mapping[Key, Record], known: Known) -> None:
        self._records, self._known = records, known
        self.by_birth_date: list[Record] = []

    def who(self, record: Record) -> str | Conflict | None:
        """Return the reference that this source's ids name, None for an id it never used."""
        known = self._known
        entity = record.role
        by_key = known.ids.get((entity, KEY, record.person_key))
        by_stable = known.ids.get((entity, STABLE, record.stable_id)) if record.stable_id else None
        if by_key is None:
            return None if by_stable is None else self._under_new_key(record, by_stable.person)
        if by_stable is not None and by_stable.retired:
            by_stable = None
        if by_key.retired:
            return self._reopened(record, by_key.person, by_stable.person if by_stable else None)
        if by_stable is not None and by_stable.person != by_key.person:
            why = "The id and the lasting id in this row belong to two different people."
            return conflict_of("id_swapped", record, why, known, by_key.person)
        return self._under_own_key(record, by_key.person, is_lasting=by_stable is not None)

    def by_id(self, record: Record) -> str | None:
        known = self._known
        for namespace, value in ((STABLE, record.stable_id), (KEY, record.person_key)):
            if not value:
                continue
            own = known.ids.get((record.role, namespace, value))
            ref = own.person if own and not own.retired else known.other_ids.get((record.role, namespace, value))
            if ref:
                return ref
        return None

    def _solved(self, record: Record) -> str | None:
        solution = self._known.solutions.get((record.role, record.person_key))
        return solution.solution if solution and solution.about == digest(record) else None

    def _claim(self, ref: str) -> KnownClaim | None:
        return self._known.claims.get(ref)

    def _described(self, ref: str) -> KnownPerson | PersonFields:
        # What this source itself said last is compared, not another source's spelling or a correction by hand.
        claim = self._claim(ref)
        return claim.fields if claim else self._known.people[ref]

    def _under_new_key(self, record: Record, ref: str) -> str | Conflict:
        described = self._described(ref)
        if is_same(described, record.fields) is Same.YES or self._solved(record) == "same":
            return ref
        if _is_born_alike(described, record.fields):
            self.by_birth_date.append(record)
            return ref
        why = "The lasting id in this row belongs to somebody with another name."
        return conflict_of("id_reused", record, why, self._known, ref)

    def _reopened(self, record: Record, ref: str, by_stable: str | None) -> str | Conflict:
        own = by_stable in {None, ref} and is_same(self._described(ref), record.fields) is Same.YES
        if own:
            return ref
        why = "This id belonged to another person before; ids are never used again for somebody else."
        return conflict_of("id_reused", record, why, self._known, ref)

    def _under_own_key(self, record: Record, ref: str, *, is_lasting: bool) -> str | Conflict:
        described = self._described(ref)
        same = is_same(described, record.fields)
        if same is Same.YES or self._solved(record) == "same":
            return ref
        if is_lasting and not self._changed_wholly(described, record.fields):
            # Two ids agree: the names were changed, by a marriage, a deed poll or a correction.
            return ref
        if same is Same.MIXED_UP:
            why = (
                "The birth date in this row has day and month exchanged; correct it in the source, or say it is right."
            )
            return conflict_of("id_reused", record, why, self._known, ref)
        if self._is_swap(record, ref):
            why = "Two people have swapped ids."
            return conflict_of("id_swapped", record, why, self._known, ref)
        why = "This id now has another name; ids are never used again for somebody else."
        return conflict_of("id_reused", record, why, self._known, ref)

    @staticmethod
    def _changed_wholly(old: KnownPerson | PersonFields, new: PersonFields) -> bool:
        born = old.birth_date is not None and new.birth_date is not None and old.birth_date != new.birth_date
        return born and parts(old.given_name) != parts(new.given_name)

    def _is_swap(self, record: Record, ref: str) -> bool:
        """Return whether the record describes the holder of another id of this source, or is described there."""
        holders = self._claimed_names.get(_named(record.role, record.fields), ())
        if any(other != ref for other in holders):
            return True
        described = self._described(ref)
        own = name_key(described.given_name, described.family_name)
        return any(
            key != (record.role, record.person_key) and (key[0], KEY, key[1]) in self._known.ids
            for key in self._names_read.get(own, ())
        )

    @cached_property
    def _names_read(self) -> Mapping[str, list[Key]]:
        read: dict[str, list[Key]] = defaultdict(list)
        for key, item in self._records.items():
            read[name_key(item.fields.given_name, item.fields.family_name)].append(key)
        return read

    @cached_property
    def _claimed_names(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for ref, claim in self._known.claims.items():
            if claim.state != GONE:
                names[_named(claim.entity, claim.fields)].append(ref)
        return names

    @cached_property
    def _births(self) -> Mapping[str, list[str]]:
        born: dict[str, list[str]] = defaultdict(list)
        for ref, person in self._known.people.items():
            if person.birth_date is not None:
                born[f"{person.birth_date} {name_key(person.given_name, person.family_name)}"].append(ref)
        return born

    def elsewhere(self, record: Record, taken: Iterable[str]) -> str | Conflict | None:
        """Return the person whom another source brought already, or a suggestion; None for a newcomer."""
        known = self._known
        by_stable = known.other_ids.get((record.role, STABLE, record.stable_id)) if record.stable_id else None
        by_key = known.other_ids.get((record.role, KEY, record.person_key))
        solved = self._solved(record)
        if solved == "other":
            return None
        for ref in dict.fromkeys((by_stable, by_key)):
            if ref is None or ref in taken:
                continue
            # An id and a name, or an id and a birth date: two independent facts.
            if is_same(known.people[ref], record.fields) is Same.YES or solved == "same":
                return ref
            if ref == by_stable and _is_born_alike(known.people[ref], record.fields):
                self.by_birth_date.append(record)
                return ref
            why = "Another source has this id for somebody with another name."
            return conflict_of("id_reused", record, why, known, ref)
        twins = self._born_alike(record)
        if not twins:
            return None
        if solved == "same" and len(twins) == 1:
            return twins[0]
        person = known.people[twins[0]]
        why = (
            f"Somebody of this name and birth date is in the directory already ({person.role} {person.person_key}); "
            "say whether they are the same person."
        )
        return conflict_of("maybe_same", record, why, known, twins[0])

    def _born_alike(self, record: Record) -> list[str]:
        return [ref for ref in self._alike(record.fields) if self._known.people[ref].role == record.role]

    def in_other_role(self, record: Record) -> KnownPerson | None:
        people = [self._known.people[ref] for ref in self._alike(record.fields)]
        return min((one for one in people if one.role != record.role), key=lambda one: one.ref, default=None)

    def _alike(self, fields: PersonFields) -> list[str]:
        if fields.birth_date is None:
            return []
        return self._births.get(f"{fields.birth_date} {name_key(fields.given_name, fields.family_name)}", [])


def _named(entity: str, fields: PersonFields) -> str:
    return f"{entity} {name_key(fields.given_name, fields.family_name)}"
