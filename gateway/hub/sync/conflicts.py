"""What only a person can resolve: kept while a source says it, solved by a word of somebody of the school.

A solution is for exactly what the source said then; when the source says something else, the question is asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.errors import RefusedError
from gateway.hub.scope import ALL_SITES, Sites
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.rows import in_slices
from gateway.hub.sync import positions
from gateway.hub.sync.operations import Conflict

# What a person may answer to each kind; the others are corrected in the source.
SOLUTIONS = {"id_reused": ("same",), "maybe_same": ("same", "other")}


@dataclass(frozen=True, slots=True)
class ConflictView:
    """A conflict with both sides, for a page."""

    id: int
    source: int
    kind: str
    entity: str
    person_key: str
    place: str
    why: str
    person: str | None
    summary: str
    first_run: int
    solutions: tuple[str, ...]


def keep(connection: Connection, source: int, run: int, conflicts: list[Conflict], *, is_complete: bool) -> int:
    """Record the conflicts of a run; return how many of them are new.

    Args:
        is_complete: whether a conflict that the read did not name is over.
    """
    table = tables.conflict
    of_source = (table.c.source == source, table.c.state == "open")
    columns = (table.c.id, table.c.kind, table.c.entity, table.c.person_key)
    known = {
        (row.kind, row.entity, row.person_key): row.id for row in connection.execute(select(*columns).where(*of_source))
    }
    fresh: dict[tuple[str, str, str], dict[str, Any]] = {}
    lasting: list[dict[str, Any]] = []
    over = dict(known)
    for item in conflicts:
        key = (item.kind, item.entity, item.person_key)
        details = {
            "place": item.place,
            "why": item.why,
            "summary": item.summary,
            "about": item.about,
            "person": item.person,
        }
        over.pop(key, None)
        if key in known:
            lasting.append({"of": known[key], **{f"new_{name}": value for name, value in details.items()}})
        else:
            named = {"source": source, "kind": item.kind, "entity": item.entity, "person_key": item.person_key}
            fresh.setdefault(key, {**named, **details, "state": "open", "first_run": run, "last_run": run})
    if fresh:
        connection.execute(insert(table), list(fresh.values()))
    if lasting:
        changed: dict[str, Any] = {
            name: bindparam(f"new_{name}") for name in ("place", "why", "summary", "about", "person")
        }
        statement = update(table).where(table.c.id == bindparam("of")).values(**changed, last_run=run)
        connection.execute(statement, lasting)
    if is_complete:
        for some in in_slices(over.values()):
            connection.execute(update(table).where(table.c.id.in_(some)).values(state="gone", last_run=run))
    return len(fresh)


def list_open(
    connection: Connection, source: int | None = None, *, sites: Sites = ALL_SITES, limit: int | None = None
) -> list[ConflictView]:
    """Return the open conflicts, of one source or of all of some sites; those that leave a card in use first."""
    table = tables.conflict
    columns = (table.c.id, table.c.source, table.c.kind, table.c.entity, table.c.person_key, table.c.place)
    query = select(*columns, table.c.why, table.c.person, table.c.summary, table.c.first_run).where(
        table.c.state == "open"
    )
    if source is not None:
        query = query.where(table.c.source == source)
    query = query.join_from(table, tables.source).where(sites.hold(tables.source.c.site))
    urgent = table.c.why.contains("Decide this first")
    rows = connection.execute(query.order_by(~urgent, table.c.kind, table.c.person_key).limit(limit))
    return [
        ConflictView(
            row.id,
            row.source,
            row.kind,
            row.entity,
            row.person_key,
            row.place,
            row.why,
            row.person,
            row.summary,
            row.first_run,
            SOLUTIONS.get(row.kind, ()),
        )
        for row in rows
    ]


def solve(store: Store, conflict: int, solution: str, actor: str) -> None:
    """Answer a conflict; the next run of its source acts on it.

    Raises:
        RefusedError: it is no longer open, or has no such answer.
    """
    table = tables.conflict
    with store.write() as connection:
        query = select(
            table.c.source, table.c.kind, table.c.person_key, table.c.person, tables.source.c.site
        ).join_from(table, tables.source)
        row = connection.execute(query.where(table.c.id == conflict, table.c.state == "open")).one_or_none()
        if row is None:
            raise RefusedError("This conflict is no longer open; reload the page.")
        if solution not in SOLUTIONS.get(row.kind, ()):
            raise RefusedError("This conflict is resolved by correcting the source, or by linking a card by hand.")
        solved = {"state": "solved", "solution": solution, "by": actor, "solved_ms": now_ms()}
        connection.execute(update(table).where(table.c.id == conflict).values(solved))
        positions.forget(connection, row.source)
        audit = Audit(actor, row.site, now_ms())
        audit.note("conflict_solve", row.person or row.person_key, kind=row.kind, solution=solution)
        audit.write(connection)
