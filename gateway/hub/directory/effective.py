"""What a person is: computed from the claims of the sources and the corrections made by hand.

The first source in rank that says a field wins, whatever the order of the runs; a correction wins over all until the
source's own value changes. A person is active while a source brings them, missing while every source misses them, and
inactive when none is left.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from gateway.config import UserTypeSettings
from gateway.hub.directory.groups import Typed, follow_groups, typed_groups
from gateway.hub.directory.names import search_text, sort_name
from gateway.hub.directory.user_types import load_user_types, type_of
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices
from gateway.mis.base import PersonFields

_decode = msgspec.json.Decoder(PersonFields).decode
_STATES = {"present": 0, "missing": 1, "out": 2, "gone": 3}
# Whoever has left is in no group any more.
_HERE = ("present", "missing")
_PERSON_STATES = {"present": "active", "missing": "missing", "out": "out_of_scope", "gone": "inactive"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's claim, in the order of rank."""

    source: int
    person_key: str
    state: str
    fields: PersonFields


def row_of(person_key: str, fields: PersonFields, user_type: str | None = None) -> dict[str, Any]:
    """Return the columns of a person that follow from their id and fields, and from their type among the site's."""
    names = (fields.family_name, fields.given_name)
    return {
        "person_key": person_key,
        "role": fields.role,
        "given_name": fields.given_name,
        "family_name": fields.family_name,
        "sort_name": sort_name(fields.given_name, fields.family_name),
        "search_text": search_text(*names, person_key, fields.form, fields.year),
        "groups": sorted({*fields.all_groups, *((user_type,) if user_type else ())}),
        "year": fields.year,
        "form": fields.form,
        "department": fields.department,
        "birth_date": fields.birth_date,
        "email": fields.email or None,
        "valid_from": fields.starts_on,
        "valid_until": fields.ends_on,
    }


def combine(claims: list[Claim], overrides: Mapping[str, Any]) -> PersonFields:
    """Return what the claims, highest rank first, say together under the corrections."""
    brought = [claim for claim in claims if claim.state != "gone"] or claims
    values: dict[str, Any] = {}
    for name in PersonFields.__struct_fields__:
        values_of = (getattr(claim.fields, name) for claim in brought)
        values[name] = next((value for value in values_of if value is not None), None)
    return PersonFields(**{**values, **overrides})


def settle(connection: Connection, refs: Iterable[str], at_ms: int) -> None:
    """Bring the rows of some people in line with the claims on them; in the transaction that changed the claims."""
    types: dict[str, tuple[UserTypeSettings, ...]] = {}
    for some in in_slices(sorted(set(refs))):
        claims = claims_of(connection, some)
        overrides = _overrides(connection, some, claims, at_ms)
        site_of = _sites_of(connection, some)
        types |= {site: load_user_types(connection, site) for site in {*site_of.values()} - types.keys()}
        rows: list[dict[str, Any]] = []
        groups: dict[str, tuple[str, Typed]] = {}
        for ref, of_person in claims.items():
            state = min((claim.state for claim in of_person), key=_STATES.__getitem__)
            named = next((claim for claim in of_person if claim.state == state), of_person[0])
            fields = combine(of_person, overrides.get(ref, {}))
            site = site_of[ref]
            kind = type_of(types[site], fields)
            values = row_of(named.person_key, fields, kind)
            values |= {"source": named.source, "state": _PERSON_STATES[state]}
            groups[ref] = (site, typed_groups(fields, kind) if state in _HERE else frozenset())
            rows.append({"of": ref, "changed": at_ms, **{f"new_{name}": value for name, value in values.items()}})
        if rows:
            _write(connection, rows)
            follow_groups(connection, groups, at_ms)


def _sites_of(connection: Connection, refs: list[str]) -> dict[str, str]:
    person = tables.person.c
    rows = connection.execute(select(person.ref, person.site).where(person.ref.in_(refs)))
    return {row.ref: row.site for row in rows}


def _write(connection: Connection, rows: list[dict[str, Any]]) -> None:
    person = tables.person
    names = [name.removeprefix("new_") for name in rows[0] if name.startswith("new_")]
    statement = update(person).where(person.c.ref == bindparam("of"))
    statement = statement.values({name: bindparam(f"new_{name}", type_=person.c[name].type) for name in names})
    connection.execute(statement.values(changed_ms=bindparam("changed")), rows)
    refs = [row["of"] for row in rows]
    gone = person.c.state.in_(("inactive", "out_of_scope"))
    stay = update(person).where(person.c.ref.in_(refs))
    connection.execute(stay.where(gone, person.c.left_ms.is_(None)).values(left_ms=rows[0]["changed"]))
    connection.execute(stay.where(~gone, person.c.left_ms.is_not(None)).values(left_ms=None))


def claims_of(connection: Connection, refs: list[str]) -> dict[str, list[Claim]]:
    """Return the claims on some people, for each in the order of rank."""
    claim, source = tables.person_claim, tables.source
    query = (
        select(claim.c.person, claim.c.source, claim.c.person_key, claim.c.state, claim.c.data, source.c.options)
        .join_from(claim, source, source.c.id == claim.c.source)
        .where(claim.c.person.in_(refs))
        .order_by(claim.c.person, claim.c.source)
    )
    found: dict[str, list[tuple[float, Claim]]] = defaultdict(list)
    for ref, of, person_key, state, data, options in connection.execute(query):
        found[ref].append((float(options.get("rank", of)), Claim(of, person_key, state, _decode(data))))
    return {ref: [claim for _, claim in sorted(some, key=lambda item: item[0])] for ref, some in found.items()}


def _overrides(
    connection: Connection, refs: list[str], claims: Mapping[str, list[Claim]], at_ms: int
) -> dict[str, dict[str, Any]]:
    """Return the corrections in force; one whose source value has changed since ends here."""
    table = tables.field_override
    query = select(table).where(table.c.person.in_(refs), table.c.closed_ms.is_(None))
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    over: list[int] = []
    for row in connection.execute(query):
        current = combine(claims[row.person], {})
        if stored(getattr(current, row.field)) != row.mis_value:
            over.append(row.id)
        else:
            value = json.loads(row.value)
            found[row.person][row.field] = date.fromisoformat(value) if value and row.field == "birth_date" else value
    if over:
        ended = {"closed_ms": at_ms, "closed_why": "the source changed this value"}
        connection.execute(update(table).where(table.c.id.in_(over)).values(ended))
    return found


def stored(value: object) -> str:
    """Return the stored form of a field's value."""
    return json.dumps(value.isoformat() if isinstance(value, date) else value, ensure_ascii=False)
