"""What the guard held back, operation by operation: shown with its reason, approved or refused, applied once.

An approval is for one operation unchanged, once, and for a day; the next run that still wants it applies it. A refusal
lasts until the source no longer asks for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, insert, select, update

from gateway.errors import RefusedError
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.rows import in_slices
from gateway.hub.sync import positions
from gateway.hub.sync.guard import Verdict
from gateway.hub.sync.operations import Operation, op_hash

APPROVAL_MS = 24 * 3600 * 1000
_OPEN = ("held", "approved", "refused")


@dataclass(frozen=True, slots=True)
class HeldOperation:
    """One held operation, for a page or a command line."""

    op_hash: str
    kind: str
    what: str
    why: str
    state: str
    first_ms: int
    operation: dict[str, Any]


def decided(connection: Connection, source: int) -> tuple[set[str], set[str]]:
    """Return the operations of a source that may be applied now, and those that were refused."""
    hold = tables.hold_op
    query = select(hold.c.op_hash, hold.c.state, hold.c.decided_ms).where(hold.c.source == source)
    rows = connection.execute(query.where(hold.c.state.in_(("approved", "refused")))).all()
    approved = {row.op_hash for row in rows if row.state == "approved" and row.decided_ms >= now_ms() - APPROVAL_MS}
    return approved, {row.op_hash for row in rows if row.state == "refused"}


def hold_again(connection: Connection, source: int, verdict: Verdict) -> None:
    """Hold what waits although somebody has decided about some that waited with it, whether the guard would or not.

    They looked at the rest too; fewer by now, it must not pass by itself. Where nobody decided anything, as after an
    export that was cut short, what is few passes again.
    """
    hold, other = tables.hold_op, tables.hold_op.alias("other")
    decided_since = (other.c.source == source, other.c.decided_ms >= hold.c.first_ms)
    query = select(hold.c.op_hash, hold.c.why).where(hold.c.source == source, hold.c.state == "held")
    query = query.where(select(other.c.op_hash).where(*decided_since).exists())
    waiting = {row.op_hash: row.why for row in connection.execute(query)}
    if not waiting:
        return
    safe = []
    for operation in verdict.safe:
        if why := waiting.get(op_hash(operation)):
            verdict.held.append(operation)
            verdict.why.append(why)
        else:
            safe.append(operation)
    verdict.safe = safe


def release(verdict: Verdict, approved: Collection[str]) -> None:
    """Move the approved operations of a verdict to those that may be applied."""
    if not approved:
        return
    held, why = [], []
    for operation, reason in zip(verdict.held, verdict.why, strict=True):
        if op_hash(operation) in approved:
            verdict.safe.append(operation)
        else:
            held.append(operation)
            why.append(reason)
    verdict.held, verdict.why = held, why


def stop(verdict: Verdict, refused: Collection[str]) -> int:
    """Hold the operations that somebody has refused, whether the guard would or not; return how many they are."""
    if not refused:
        return 0
    hashes = {id(item): op_hash(item) for item in (*verdict.safe, *verdict.held)}
    stopped = [item for item in verdict.safe if hashes[id(item)] in refused]
    verdict.safe = [item for item in verdict.safe if hashes[id(item)] not in refused]
    verdict.held += stopped
    verdict.why += ["This was refused."] * len(stopped)
    return sum(hashes[id(item)] in refused for item in verdict.held)


def keep(
    connection: Connection,
    source: int,
    run: int,
    verdict: Verdict,
    applied: Collection[Operation],
    *,
    is_whole: bool = True,
) -> None:
    """Record what this run holds, and close what is applied or no longer wanted.

    Args:
        is_whole: whether the source no longer wants what this run does not name.
    """
    hold = tables.hold_op
    at_ms = now_ms()
    of_source = hold.c.source == source
    known = {
        row.op_hash: row
        for row in connection.execute(select(hold.c.op_hash, hold.c.state, hold.c.decided_ms).where(of_source))
    }
    current = {op_hash(item): (item, why) for item, why in zip(verdict.held, verdict.why, strict=True)}
    fresh = []
    again, expired = [], []
    for number, (item, why) in current.items():
        row = known.get(number)
        if row is None:
            fresh.append(_row(source, run, number, item, why, at_ms))
        elif row.state not in _OPEN:
            again.append(number)
        elif row.state == "approved" and row.decided_ms < at_ms - APPROVAL_MS:
            expired.append(number)
    if fresh:
        connection.execute(insert(hold), fresh)
    reopened = {"state": "held", "by": None, "decided_ms": None, "run": run}
    _set(connection, source, [*again, *expired], reopened)
    _set(connection, source, [number for number in current if number in known], {"run": run})
    closed = [number for number, row in known.items() if row.state in _OPEN and number not in current]
    # A first read applies hundreds of thousands of operations, and none of them was held.
    done = {op_hash(item) for item in applied} if closed else set()
    _set(connection, source, [number for number in closed if number in done], {"state": "applied"})
    if is_whole:
        _set(connection, source, [number for number in closed if number not in done], {"state": "gone"})


def _row(source: int, run: int, number: str, item: Operation, why: str, at_ms: int) -> dict[str, Any]:
    return {
        "source": source,
        "op_hash": number,
        "kind": item.kind,
        "operation": msgspec.to_builtins(item),
        "what": item.what,
        "why": why,
        "state": "held",
        "first_ms": at_ms,
        "run": run,
    }


def _set(connection: Connection, source: int, hashes: list[str], values: dict[str, Any]) -> None:
    hold = tables.hold_op
    for some in in_slices(hashes):
        connection.execute(update(hold).where(hold.c.source == source, hold.c.op_hash.in_(some)).values(values))


def list_held(connection: Connection, source: int, *, limit: int | None = None) -> list[HeldOperation]:
    """Return what is held of a source now, refused operations last."""
    hold = tables.hold_op
    columns = (hold.c.op_hash, hold.c.kind, hold.c.what, hold.c.why, hold.c.state, hold.c.first_ms, hold.c.operation)
    query = select(*columns).where(hold.c.source == source, hold.c.state.in_(_OPEN))
    query = query.order_by(hold.c.state == "refused", hold.c.why, hold.c.kind, hold.c.what).limit(limit)
    return [HeldOperation(*row) for row in connection.execute(query)]


def decide(
    store: Store, source: int, actor: str, decision: Literal["approved", "refused"], hashes: Collection[str] | None
) -> int:
    """Approve or refuse held operations, all of them without `hashes`; return how many.

    Raises:
        RefusedError: one of them is not held any more, so nothing is decided.
    """
    hold = tables.hold_op
    with store.write() as connection:
        query = select(hold.c.op_hash, tables.source.c.site).join_from(hold, tables.source)
        rows = connection.execute(query.where(hold.c.source == source, hold.c.state.in_(_OPEN))).all()
        held = {row.op_hash for row in rows}
        chosen = held if hashes is None else set(hashes)
        if missing := sorted(chosen - held):
            raise RefusedError(f"The operation {missing[0]} is no longer held; look at the newest run again.")
        if not chosen:
            return 0
        _set(connection, source, sorted(chosen), {"state": decision, "by": actor, "decided_ms": now_ms()})
        positions.forget(connection, source)
        audit = Audit(actor, rows[0].site, now_ms())
        operation = "hold_approve" if decision == "approved" else "hold_refuse"
        audit.note(operation, f"source:{source}", operations=sorted(chosen)[:100], count=len(chosen))
        audit.write(connection)
    return len(chosen)
