"""Who is in which group: years, forms, houses, departments and the groups that rules name, each with its history.

A person's groups follow from their fields; a membership ends when the source no longer says it, or when they leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gateway.access.people import fold_group
from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices, insert_if_new
from gateway.mis.base import GROUP_FIELDS, PersonFields

# The kinds of groups: the types of the site, the fields of that name, and `group` for what else a source calls one.
KINDS = ("type", *GROUP_FIELDS, "group")
Typed = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group with how many people are in it; `id` is its number in the database."""

    id: int
    site: str
    kind: str
    name: str
    people: int


def typed_groups(fields: PersonFields, user_type: str | None = None) -> Typed:
    """Return the groups that somebody's fields say, each as kind and name, and their type among those of the site."""
    typed = {(kind, value) for kind in GROUP_FIELDS if (value := getattr(fields, kind))}
    if user_type is not None:
        typed.add(("type", user_type))
    named = {fold_group(name) for _, name in typed}
    # A source may repeat a form or a year among its groups.
    return frozenset(typed | {("group", name) for name in fields.groups or () if fold_group(name) not in named})


def add_members(connection: Connection, site: str, people: Mapping[str, Typed], at_ms: int) -> None:
    """Note the groups of new people of one site."""
    _join(connection, {ref: (site, groups) for ref, groups in people.items()}, at_ms)


def follow_groups(connection: Connection, people: Mapping[str, tuple[str, Typed]], at_ms: int) -> None:
    """Bring the memberships of people, each with their site, in line with what they are in now."""
    member, group = tables.membership, tables.grouping
    joins: dict[str, tuple[str, set[tuple[str, str]]]] = {}
    ended: list[int] = []
    for some in in_slices(people):
        query = select(member.c.id, member.c.person, group.c.kind, group.c.code).join_from(member, group)
        query = query.where(member.c.person.in_(some), member.c.until_ms.is_(None))
        held: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
        for number, ref, kind, code in connection.execute(query):
            held[ref][kind, code] = number
        for ref in some:
            site, groups = people[ref]
            by_code = {(kind, fold_group(name)): (kind, name) for kind, name in groups}
            ended += [number for key, number in held[ref].items() if key not in by_code]
            if fresh := {pair for key, pair in by_code.items() if key not in held[ref]}:
                joins[ref] = (site, fresh)
    for numbers in in_slices(ended):
        connection.execute(update(member).where(member.c.id.in_(numbers)).values(until_ms=at_ms))
    _join(connection, joins, at_ms)


def _join(connection: Connection, people: Mapping[str, tuple[str, Collection[tuple[str, str]]]], at_ms: int) -> None:
    known = _groupings(connection, {(site, *pair) for site, pairs in people.values() for pair in pairs})
    rows: list[dict[str, Any]] = []
    for ref, (site, pairs) in people.items():
        numbers = {known[site, kind, fold_group(name)] for kind, name in pairs}
        rows += [{"grouping": number, "person": ref, "since_ms": at_ms} for number in sorted(numbers)]
    if rows:
        connection.execute(insert(tables.membership), rows)


def _groupings(connection: Connection, names: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """Return the number of each group by site, kind and code; those that are new are made."""
    table = tables.grouping
    # Of two spellings in one read the first in order is the name.
    by_key = {(site, kind, fold_group(name)): name for site, kind, name in sorted(names, reverse=True)}
    found: dict[tuple[str, str, str], int] = {}
    for site in sorted({site for site, _, _ in by_key}):
        rows = connection.execute(select(table.c.kind, table.c.code, table.c.id).where(table.c.site == site))
        found |= {(site, kind, code): number for kind, code, number in rows}
    for (site, kind, code), name in sorted(by_key.items()):
        if (site, kind, code) not in found:
            insert_if_new(connection, table, {"site": site, "kind": kind, "code": code, "name": name})
            mine = (table.c.site == site, table.c.kind == kind, table.c.code == code)
            found[site, kind, code] = connection.execute(select(table.c.id).where(*mine)).scalar_one()
    return found


def list_groups(scope: Scope, connection: Connection) -> list[GroupView]:
    """Return the groups that anybody whom the scope reaches is in, by kind and name."""
    group, member = tables.grouping, tables.membership
    query = (
        select(group.c.id, group.c.site, group.c.kind, group.c.name, func.count())
        .join_from(group, member)
        .where(member.c.until_ms.is_(None), scope.rows(Right.PEOPLE, group.c.site, member.c.person))
        .group_by(group.c.id, group.c.site, group.c.kind, group.c.name)
    )
    views = [GroupView(*row) for row in connection.execute(query)]
    return sorted(views, key=lambda view: (view.site, KINDS.index(view.kind), len(view.name), view.name))
