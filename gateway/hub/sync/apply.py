"""Applies a plan's operations and their audit in one transaction.

It uses a few bulk statements, so that the first read of a hundred thousand people takes seconds. Claims and ids are
written here; what a person is follows from them (directory.effective).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.hub.directory.effective import row_of, settle
from gateway.hub.directory.groups import Typed, add_members, typed_groups
from gateway.hub.directory.matching import match_taps
from gateway.hub.directory.people import new_ref
from gateway.hub.directory.user_types import load_user_types, type_of
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.rows import in_slices, insert_if_new
from gateway.hub.sync.apply_cards import apply_cards
from gateway.hub.sync.known import GONE, KEY, MISSING, OUT, PRESENT, STABLE, claim_data, origin_of
from gateway.hub.sync.operations import Create, Exclude, Join, Leave, Operation, Rekey, Remove, Return, Update
from gateway.mis.base import PersonFields

_BATCH = 2000
_decode = msgspec.json.Decoder(PersonFields).decode


@dataclass(slots=True)
class Applier:
    """Applies operations of one source inside a transaction that the caller owns.

    Attributes:
        new_card_state: `active`, or `prelinked` for sites where a card waits for its account.
    """

    connection: Connection
    site: str
    source: int
    audit: Audit
    new_card_state: str
    epoch: int = 1
    _touched: set[str] = field(default_factory=set)

    def apply(self, operations: list[Operation]) -> int:
        """Apply every operation; return how many earlier taps were matched to a person."""
        for some in in_slices((item for item in operations if isinstance(item, Create)), _BATCH):
            self._create(some)
            # Written as it goes: the lines of a first read of a hundred thousand people would fill the memory.
            self.audit.write(self.connection)
        for item in operations:
            match item:
                case Join():
                    self._join(item)
                case Rekey():
                    self._rekey(item)
        self._update([item for item in operations if isinstance(item, Update)])
        self._set_states([item for item in operations if isinstance(item, Remove | Exclude | Leave | Return)])
        settle(self.connection, self._touched, self.audit.at_ms)
        apply_cards(
            self.connection,
            self.audit,
            operations,
            origin=origin_of(self.source),
            new_state=self.new_card_state,
            refs=self._refs,
        )
        matched = match_taps(self.connection, self.audit.at_ms)
        self.audit.write(self.connection)
        return matched

    def _refs(self) -> dict[tuple[str, str], str]:
        """Return whose each id in use is, by (entity, person_key)."""
        claim = tables.person_claim.c
        query = select(claim.entity, claim.person_key, claim.person)
        rows = self.connection.execute(query.where(claim.source == self.source, claim.epoch == self.epoch))
        return {(entity, person_key): ref for entity, person_key, ref in rows}

    def _create(self, items: list[Create]) -> None:
        people, claims, ids = [], [], []
        groups: dict[str, Typed] = {}
        types = load_user_types(self.connection, self.site)
        at_ms = self.audit.at_ms
        for item in items:
            ref = new_ref()
            own = {"ref": ref, "site": self.site, "source": self.source, "state": "active"}
            kind = type_of(types, item.fields)
            of_fields = row_of(item.person_key, item.fields, kind)
            people.append({**own, **of_fields, "created_ms": at_ms, "changed_ms": at_ms})
            groups[ref] = typed_groups(item.fields, kind)
            claims.append(self._claim(ref, item))
            ids += self._ids(ref, item.fields.role, item.person_key, item.stable_id)
            self.audit.note("person_create", ref, person_key=item.person_key)
        if people:
            self.connection.execute(insert(tables.person), people)
            self.connection.execute(insert(tables.person_claim), claims)
            self.connection.execute(insert(tables.identity), ids)
            add_members(self.connection, self.site, groups, at_ms)

    def _claim(self, ref: str, item: Create | Join) -> dict[str, Any]:
        return {
            "source": self.source,
            "epoch": self.epoch,
            "person": ref,
            "entity": item.fields.role,
            "person_key": item.person_key,
            "stable_id": item.stable_id,
            "state": PRESENT,
            "data": claim_data(item.fields),
            "created_ms": self.audit.at_ms,
            "changed_ms": self.audit.at_ms,
        }

    def _ids(self, ref: str, entity: str, person_key: str, stable_id: str | None) -> list[dict[str, Any]]:
        own = {"source": self.source, "epoch": self.epoch, "entity": entity, "person": ref}
        own["since_ms"] = self.audit.at_ms
        ids = [{**own, "namespace": KEY, "value": person_key}]
        if stable_id:
            ids.append({**own, "namespace": STABLE, "value": stable_id})
        return ids

    def _join(self, item: Join) -> None:
        self.connection.execute(insert(tables.person_claim).values(self._claim(item.person, item)))
        for row in self._ids(item.person, item.fields.role, item.person_key, item.stable_id):
            insert_if_new(self.connection, tables.identity, row)
        self.audit.note("person_join", item.person, person_key=item.person_key)
        self._touched.add(item.person)

    def _rekey(self, item: Rekey) -> None:
        claim = tables.person_claim
        values = {"person_key": item.person_key, "stable_id": item.stable_id, "changed_ms": self.audit.at_ms}
        self.connection.execute(update(claim).where(*self._of(item.person)).values(values))
        pairs = ((KEY, item.old_key, item.person_key), (STABLE, item.old_stable_id, item.stable_id))
        for namespace, old, new in pairs:
            if old == new:
                continue
            if old:
                self._set_id(item.entity, namespace, old, retired_ms=self.audit.at_ms, why=f"became {new}")
            row = {"namespace": namespace, "value": new}
            if new and not insert_if_new(
                self.connection,
                tables.identity,
                {**self._ids(item.person, item.entity, "", None)[0], **row},
            ):
                # The person's own earlier id is in use again.
                self._set_id(item.entity, namespace, new, retired_ms=None, why=None)
        self.audit.note("person_rekey", item.person, old=item.old_key, new=item.person_key)
        self._touched.add(item.person)

    def _set_id(self, entity: str, namespace: str, value: str, *, retired_ms: int | None, why: str | None) -> None:
        identity = tables.identity
        of = (identity.c.source == self.source, identity.c.epoch == self.epoch, identity.c.entity == entity)
        self.connection.execute(
            update(identity)
            .where(*of, identity.c.namespace == namespace, identity.c.value == value)
            .values(retired_ms=retired_ms, why=why)
        )

    def _of(self, ref: str) -> tuple[Any, ...]:
        claim = tables.person_claim.c
        return claim.source == self.source, claim.epoch == self.epoch, claim.person == ref

    def _update(self, items: list[Update]) -> None:
        changes: dict[str, dict[str, Any]] = {}
        for item in items:
            changed = changes.setdefault(item.person, {})
            changed.update({name: new for name, (_, new) in item.changes.items()})
            changed_values = {name: [_plain(old), _plain(new)] for name, (old, new) in item.changes.items()}
            self.audit.note("person_update", item.person, changes=changed_values)
        claim = tables.person_claim
        for some in in_slices(changes):
            query = select(claim.c.person, claim.c.data).where(
                claim.c.source == self.source, claim.c.epoch == self.epoch, claim.c.person.in_(some)
            )
            rows = []
            for ref, data in self.connection.execute(query).all():
                fields = msgspec.convert(msgspec.to_builtins(_decode(data)) | _builtins(changes[ref]), PersonFields)
                rows.append({"ref": ref, "new": claim_data(fields)})
            self._write_claims(rows, {"data": bindparam("new")})
        self._touched.update(changes)

    def _write_claims(self, rows: list[dict[str, Any]], values: dict[str, Any]) -> None:
        claim = tables.person_claim
        if rows:
            statement = update(claim).where(
                claim.c.source == self.source, claim.c.epoch == self.epoch, claim.c.person == bindparam("ref")
            )
            self.connection.execute(statement.values(**values, changed_ms=self.audit.at_ms), rows)

    def _set_states(self, items: Iterable[Remove | Exclude | Leave | Return]) -> None:
        states: dict[str, list[str]] = {PRESENT: [], MISSING: [], OUT: [], GONE: []}
        for item in items:
            match item:
                case Return():
                    states[PRESENT].append(item.person)
                    if item.was != MISSING:
                        self.audit.note("person_return", item.person, person_key=item.person_key)
                case Exclude():
                    states[OUT].append(item.person)
                    self.audit.note("person_exclude", item.person, person_key=item.person_key)
                case Remove(at_once=False):
                    states[MISSING].append(item.person)
                    self.audit.note("person_missing", item.person, person_key=item.person_key)
                case _:
                    states[GONE].append(item.person)
                    self.audit.note("person_remove", item.person, person_key=item.person_key)
        for state, refs in states.items():
            since_ms = self.audit.at_ms if state == MISSING else None
            self._write_claims([{"ref": ref} for ref in refs], {"state": state, "missing_since_ms": since_ms})
            self._touched.update(refs)


def _builtins(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in changes.items()}


def _plain(value: object) -> object:
    return msgspec.to_builtins(value)
