"""The positions from which the next read of changes continues (mis.base.Checkpoint).

A position holds for the settings under which it was reached, and only while nothing waits for a whole read: who is
missing, what was approved and what somebody answered are nobody's newest change, so a read of changes would not name
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from gateway.hub.directory.sites import Source
from gateway.hub.store import tables
from gateway.hub.sync.known import GONE
from gateway.hub.sync.operations import Create, Join, Leave, Plan, Update
from gateway.mis.base import PersonFields

_decode = msgspec.json.Decoder(PersonFields).decode


def settings_of(source: Source) -> str:
    """Return a short name of the settings of a source; other settings have another one."""
    return hashlib.sha256(msgspec.json.encode(source.options, order="sorted")).hexdigest()[:16]


def positions_of(connection: Connection, source: Source) -> dict[str, str]:
    """Return the position of each list that was reached under the settings of now."""
    table, settings = tables.source_cursor, settings_of(source)
    rows = connection.execute(select(table.c.list, table.c.state).where(table.c.source == source.id))
    found = {row.list: row.state.partition(" ") for row in rows}
    return {name: state for name, (under, _, state) in found.items() if under == settings}


def keep(connection: Connection, source: Source, run: int, positions: Mapping[str, str]) -> None:
    """Store positions, in the transaction that applied everything that was read before them."""
    table = tables.source_cursor
    for name, state in positions.items():
        values = {"state": f"{settings_of(source)} {state}", "run": run}
        of_list = (table.c.source == source.id, table.c.list == name)
        if not connection.execute(update(table).where(*of_list).values(values)).rowcount:
            connection.execute(insert(table).values(source=source.id, list=name, **values))


def forget(connection: Connection, source: int) -> None:
    """Let the next read of a source be a whole one."""
    connection.execute(delete(tables.source_cursor).where(tables.source_cursor.c.source == source))


def is_decided_since(connection: Connection, source: int, at_ms: int) -> bool:
    """Return whether somebody approved or answered something since then, which the next whole read acts on."""
    hold, conflict = tables.hold_op.c, tables.conflict.c
    approved = select(hold.source).where(hold.source == source, hold.decided_ms >= at_ms)
    solved = select(conflict.id).where(conflict.source == source, conflict.solved_ms >= at_ms)
    return any(connection.scalar(query.limit(1)) is not None for query in (approved, solved))


def needs_whole_read(connection: Connection, source: Source, plan: Plan) -> bool:
    """Return whether changes alone cannot be judged: what they share with others may stand in rows that stayed."""
    if plan.conflicts or plan.rekeyed or any(isinstance(item, Leave) for item in plan.operations):
        return True
    if not plan.operations:
        return False
    table, claim = tables.conflict.c, tables.person_claim.c
    is_open = (table.source == source.id, table.state == "open")
    if connection.scalar(select(table.id).where(*is_open).limit(1)) is not None:
        return True
    emails = {email: ref for ref, email in _new_emails(plan)}
    if not emails:
        return False
    query = select(claim.person, claim.data).where(claim.source == source.id, claim.state != GONE)
    return any(
        emails.get(_decode(data).email or "", ref) != ref
        for ref, data in connection.execute(query)
        if '"email"' in data
    )


def _new_emails(plan: Plan) -> Iterator[tuple[str | None, str]]:
    for item in plan.operations:
        match item:
            case Create() if item.fields.email:
                yield None, item.fields.email
            case Join() if item.fields.email:
                yield item.person, item.fields.email
            case Update() if email := item.changes.get("email", ("", ""))[1]:
                yield item.person, str(email)
