"""Compares a source with the directory and makes a plan; pure: the clock is an argument.

The same feed in any order gives the same plan, and after a plan was applied the next one is empty. Absence means
something only after a complete read: whoever is absent once is missing and still let in, whoever is absent again, or
was missing for a day, has left. A source says more only by its own word (Gone).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.access.people import fold_group
from gateway.hub.directory.names import fold, name_key
from gateway.hub.sync.emails import keep_from_others, settle_emails
from gateway.hub.sync.feed import Feed, by_person
from gateway.hub.sync.known import (
    GONE,
    KEY,
    MISSING,
    OUT,
    PRESENT,
    STABLE,
    Known,
    KnownClaim,
    KnownPerson,
    claim_data,
    waits_for,
)
from gateway.hub.sync.match import Key, Matches, match_all
from gateway.hub.sync.operations import (
    Await,
    Create,
    Exclude,
    Join,
    Leave,
    Operation,
    Plan,
    Rekey,
    Remove,
    Return,
    Update,
)
from gateway.hub.sync.plan_cards import CardWish, plan_cards
from gateway.mis.base import GROUP_FIELDS, ROLES, Capabilities, Gone, PersonFields, Record
from gateway.mis.text import count_damaged

MISSING_MS = 24 * 3600 * 1000
_FEW = 10
_PLACES = 20
_REKEYED_SHARE = 10
# A change of these is held or applied together; each group is an operation of its own.
UPDATE_GROUPS = (
    ("given_name", "family_name"),
    ("birth_date",),
    ("email",),
    (*GROUP_FIELDS, "groups"),
    ("starts_on", "ends_on"),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """How one source is compared.

    Attributes:
        retires: absence means at once that somebody has left, as when a school takes a source out of use.
        cards_only: records have an id and cards; people come from other sources.
        roles: whom the school takes from this source.
        years: of which years pupils are taken, folded (names.fold_group); empty for all.
        pupil_emails: whether the e-mail addresses of pupils come in; None: only what is here already stays.
    """

    retires: bool = False
    cards_only: bool = False
    roles: frozenset[str] = frozenset(ROLES)
    years: frozenset[str] = frozenset()
    pupil_emails: bool | None = None

    def takes(self, fields: PersonFields) -> bool:
        """Return whether the school takes such a person from this source."""
        if fields.role not in self.roles:
            return False
        return not self.years or fields.role != "student" or fold_group(fields.year or "") in self.years


def make_plan(feed: Feed, known: Known, capabilities: Capabilities, now_ms: int, rules: Rules | None = None) -> Plan:
    """Compare a feed with what is known."""
    return _Planner(feed, known, capabilities, now_ms, rules or Rules()).plan()


class _Planner:
    def __init__(self, feed: Feed, known: Known, capabilities: Capabilities, now_ms: int, rules: Rules) -> None:
        self._feed, self._known, self._can, self._now_ms, self._rules = feed, known, capabilities, now_ms, rules
        self._plan = Plan(notices=list(feed.notices))
        self._stable_given: set[tuple[str, str]] = set()

    def plan(self) -> Plan:
        plan = self._plan
        records = by_person(self._feed, self._known, plan)
        if not self._rules.cards_only:
            records, doubtful = settle_emails(records, pupils=self._rules.pupil_emails)
            plan.conflicts += doubtful
        matches = match_all(records, self._known, by_id_only=self._rules.cards_only)
        plan.conflicts += matches.conflicts
        outside = self._leave_out(matches)
        removals = list(self._removals(matches, outside))
        if self._rules.cards_only:
            self._await(matches.new)
            matches.new = []
        self._recognise_new_ids(records, matches, removals)
        gone = {item.person for item in removals if isinstance(item, Leave) or item.at_once}
        if not self._rules.cards_only:
            self._keep_emails(matches, gone | outside.keys())
            self._report(matches)
        for record in matches.new:
            plan.operations.append(Create(record.person_key, record.fields, record.stable_id))
        if not self._rules.cards_only:
            for ref, record in sorted(matches.joined.items()):
                plan.operations.append(self._join(ref, record))
            for ref, record in sorted(matches.people.items()):
                plan.operations.extend(self._update(self._known.claims[ref], record))
        plan.operations += removals
        plan.operations += [
            Exclude(ref, record.person_key, self._known.people[ref].name, record.fields.all_groups)
            for ref, record in sorted(outside.items())
            if self._known.claims[ref].state not in {OUT, GONE}
        ]
        wishes = [CardWish(None, record) for record in matches.new]
        wishes += [CardWish(ref, record) for ref, record in (matches.people | matches.joined).items()]
        plan_cards(wishes, self._known, plan, gone)
        plan.conflicts.sort(key=lambda item: (not item.is_urgent, item.kind, item.entity, item.person_key, item.place))
        return plan

    def _leave_out(self, matches: Matches) -> dict[str, Record]:
        """Take those whom the school does not take from this source out of the matches; return known ones."""
        takes = self._rules.takes
        if self._rules.cards_only:
            return {}
        outside = {ref: record for ref, record in matches.people.items() if not takes(record.fields)}
        matches.people = {ref: record for ref, record in matches.people.items() if ref not in outside}
        matches.joined = {ref: record for ref, record in matches.joined.items() if takes(record.fields)}
        left = len(outside) + sum(not takes(record.fields) for record in matches.new)
        matches.new = [record for record in matches.new if takes(record.fields)]
        if left:
            self._plan.notices.append(f"{left} people are not among the lists and years that are taken.")
        return outside

    def _keep_emails(self, matches: Matches, leaving: Collection[str]) -> None:
        """Let nobody have an address that somebody else in the directory has and keeps."""
        known = self._known

        def lets_go(person: KnownPerson) -> bool:
            claim, record = known.claims.get(person.ref), matches.people.get(person.ref)
            if claim is None or claim.fields.email != person.email or person.ref in known.elsewhere:
                return False
            is_changed = record is not None and "email" in self._changes(claim.fields, record.fields)
            return is_changed or person.ref in leaving

        found = [*matches.people.items(), *matches.joined.items(), *((None, record) for record in matches.new)]
        addresses = {record.fields.email for _, record in found if record.fields.email}
        here = (person for person in known.people.values() if person.state in {"active", "missing"})
        holders = [person for person in here if person.email in addresses and not lets_go(person)]
        changed, conflicts = keep_from_others(found, holders)
        self._plan.conflicts += conflicts
        for some in (matches.people, matches.joined):
            some |= {ref: changed.get((one.role, one.person_key), one) for ref, one in some.items()}
        matches.new = [changed.get((one.role, one.person_key), one) for one in matches.new]

    def _report(self, matches: Matches) -> None:
        """Say what is applied and should be looked at."""
        notices = self._plan.notices
        if matches.by_birth_date:
            places = _places(matches.by_birth_date)
            notices.append(f"Recognised by lasting id and birth date, under other names than before: {places}.")
        notices += [
            f"{record.place}: {other.role} {other.person_key} has the same name and birth date; as {record.role} they "
            "are a person of their own, with cards of their own."
            for record, other in matches.in_other_roles
        ]
        used = [*matches.people.values(), *matches.joined.values(), *matches.new]
        damaged = [one for one in used if count_damaged([one.fields.given_name, one.fields.family_name])]
        if damaged:
            notices.append(f"Names applied as they are, although they look damaged: {_places(damaged)}.")

    def _join(self, ref: str, record: Record) -> Join:
        person = self._known.people[ref]
        return Join(ref, record.person_key, record.fields, record.stable_id, f"{person.name} ({person.person_key})")

    def _update(self, claim: KnownClaim, record: Record) -> Iterator[Operation]:
        person = self._known.people[claim.person]
        if claim.state != PRESENT:
            yield Return(claim.person, record.person_key, person.name, claim.state)
        stable_id = self._stable_of(claim, record)
        if record.person_key != claim.person_key or stable_id != claim.stable_id:
            yield Rekey(
                claim.person,
                claim.entity,
                person.name,
                claim.person_key,
                record.person_key,
                claim.stable_id,
                stable_id,
            )
        if claim_data(record.fields) == claim.data:
            return
        changes = self._changes(claim.fields, record.fields)
        for group in UPDATE_GROUPS:
            some = {name: changes[name] for name in group if name in changes}
            if some:
                yield Update(claim.person, record.person_key, person.name, some)

    def _stable_of(self, claim: KnownClaim, record: Record) -> str | None:
        new = record.stable_id
        if not new or new == claim.stable_id:
            return claim.stable_id
        holder = self._known.ids.get((claim.entity, STABLE, new))
        if (holder is not None and holder.person != claim.person) or (claim.entity, new) in self._stable_given:
            self._plan.notices.append(f"{record.place}: this lasting id belongs to somebody else and is ignored.")
            return claim.stable_id
        self._stable_given.add((claim.entity, new))
        return new

    def _changes(self, old: PersonFields, new: PersonFields) -> dict[str, tuple[object, object]]:
        changes: dict[str, tuple[object, object]] = {}
        for name in PersonFields.__struct_fields__:
            was, now = getattr(old, name), getattr(new, name)
            if now is None and name not in self._feed.shape:
                continue
            if name == "groups":
                was, now = was or (), now or ()
            if was != now and name != "role":
                changes[name] = (was, now)
        return changes

    def _removals(self, matches: Matches, outside: Collection[str]) -> Iterator[Remove | Leave]:
        """Yield who left: by the source's own word, by absence from a complete read, or after a day of absence."""
        feed, known = self._feed, self._known
        departures = self._departures(matches)
        # A person named in a faulty row or a conflict is present, but that row cannot be used.
        named = {item.person_key for item in feed.unreadable} | {item.person_key for item in self._plan.conflicts}
        kept = {item.person for item in self._plan.conflicts if item.person}
        staff_absent = 0
        for ref, claim in sorted(known.claims.items()):
            if claim.state == GONE or ref in matches.people or ref in outside:
                continue
            person = known.people[ref]
            if ref in departures:
                yield Remove(ref, claim.person_key, person.name, claim.fields.all_groups, True, departures[ref].why)
                continue
            is_long_missing = claim.state == MISSING and self._now_ms - (claim.missing_since_ms or 0) >= MISSING_MS
            if claim.person_key in named or ref in kept:
                continue
            if claim.entity not in feed.complete_roles:
                if is_long_missing:
                    yield Leave(ref, claim.person_key, person.name)
                continue
            if why := self._proof_of_absence(claim):
                yield Remove(ref, claim.person_key, person.name, claim.fields.all_groups, True, why)
            elif claim.entity == "staff" and not self._can.removes_staff:
                staff_absent += 1
            elif claim.state in {MISSING, OUT}:
                yield Leave(ref, claim.person_key, person.name)
            else:
                yield Remove(ref, claim.person_key, person.name, claim.fields.all_groups)
        if staff_absent:
            self._plan.notices.append(
                f"{staff_absent} members of staff are no longer in the source; they are not removed."
            )

    def _proof_of_absence(self, claim: KnownClaim) -> str | None:
        """Return why absence means that somebody has left at once."""
        if self._rules.retires:
            return "the source is retired"
        last_day = claim.fields.ends_on if claim.entity == "staff" else None
        # A day later, so that the last day is over in every time zone.
        today = datetime.fromtimestamp(self._now_ms / 1000, UTC).date()
        return "leaving date" if last_day is not None and today - last_day > timedelta(days=1) else None

    def _departures(self, matches: Matches) -> dict[str, Gone]:
        departures: dict[str, Gone] = {}
        for item in self._feed.gone:
            ids = ((STABLE, item.stable_id), (KEY, item.person_key))
            entities = (item.entity,) if item.entity else ROLES
            refs = {
                found.person
                for entity in entities
                for namespace, value in ids
                if value and (found := self._known.ids.get((entity, namespace, value))) and not found.retired
            }
            # Somebody who is also there as present has come back, or was never away.
            if len(refs) == 1 and not refs & matches.people.keys():
                departures[refs.pop()] = item
        return departures

    def _await(self, records: list[Record]) -> None:
        for record in records:
            waiting = {card.key for card in self._known.waiting[waits_for(record.role, record.person_key)]}
            for claim in record.cards or ():
                if claim.key not in waiting and claim.key not in self._known.cards:
                    self._plan.operations.append(
                        Await(record.role, record.person_key, claim.key, claim.tail, claim.projection)
                    )

    def _recognise_new_ids(
        self, records: Mapping[Key, Record], matches: Matches, removals: list[Remove | Leave]
    ) -> None:
        """Find an export whose ids changed all at once, and turn newcomers and leavers into the same people.

        Excel drops leading zeros, a new MIS counts anew: then most newcomers are somebody who is missing.
        """
        pairs = {
            item.person: records[item.entity, item.person_key]
            for item in self._plan.conflicts
            if item.kind == "maybe_same" and item.person in self._known.claims and item.person not in matches.people
        }
        gone = [item.person for item in removals if isinstance(item, Remove)]
        present = self._known.present
        fresh = len(matches.new) + len(pairs)
        if fresh < min(_FEW, present) or min(fresh, len(gone) + len(pairs)) * _REKEYED_SHARE <= present:
            return
        pairs |= self._pairs(matches.new, gone)
        if len(pairs) * 2 <= fresh:
            return
        joined = pairs.keys()
        self._plan.conflicts = [
            item for item in self._plan.conflicts if item.kind != "maybe_same" or item.person not in joined
        ]
        example_ref, example = min(pairs.items(), key=lambda item: item[1].person_key)
        old_key = self._known.claims[example_ref].person_key
        self._plan.rekeyed = (
            f"{len(pairs)} people have other ids than before, such as {example.person_key!r} for {old_key!r}"
            f"{_cause(old_key, example.person_key)}; if the ids did not change on purpose, correct the export."
        )
        new = {id(record) for record in pairs.values()}
        matches.new = [record for record in matches.new if id(record) not in new]
        matches.people |= pairs
        removals[:] = [item for item in removals if item.person not in pairs]

    def _pairs(self, new: list[Record], gone: list[str]) -> dict[str, Record]:
        """Pair newcomers with leavers of the same name, by birth date or like id where several share it."""
        leavers: dict[str, list[str]] = {}
        for ref in gone:
            claim = self._known.claims[ref]
            leavers.setdefault(f"{claim.entity} {_names(claim.fields)}", []).append(ref)
        pairs: dict[str, Record] = {}
        for record in new:
            found = [ref for ref in leavers.get(f"{record.role} {_names(record.fields)}", ()) if ref not in pairs]
            born = [
                ref
                for ref in found
                if record.fields.birth_date is None
                or self._known.claims[ref].fields.birth_date in {None, record.fields.birth_date}
            ]
            like = [ref for ref in born if _plain(self._known.claims[ref].person_key) == _plain(record.person_key)]
            some = like or born
            if len(some) == 1:
                pairs[some[0]] = record
        return pairs


def _places(records: list[Record]) -> str:
    places = sorted(record.place for record in records)
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return ", ".join(places[:_PLACES]) + more


def _names(fields: PersonFields) -> str:
    return name_key(fields.given_name, fields.family_name)


def _plain(person_key: str) -> str:
    # What a spreadsheet or a copy by hand may change in an id: zeros in front, case, spaces, invisible characters.
    return "".join(letter for letter in fold(person_key) if letter.isalnum()).lstrip("0")


def _cause(old_key: str, new_key: str) -> str:
    if old_key.lstrip("0") == new_key.lstrip("0"):
        return " (zeros in front were lost or added, as a spreadsheet does)"
    if old_key.casefold() == new_key.casefold():
        return " (upper and lower case)"
    if _plain(old_key) == _plain(new_key):
        return " (spaces or invisible characters)"
    return ""
