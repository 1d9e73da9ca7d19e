"""One sync run of a source: read, plan, guard, apply, record.

The source is read before any transaction begins. The plan is made from one snapshot of the database and applied only if
nothing has changed since; otherwise it is made again. Held changes are stored with their diff under the plan's hash and
applied by the next run that is given, or finds approved, exactly that hash.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from gateway.errors import RefusedError, RetryError, SourceRefused, StoreUnavailable, TapgateError
from gateway.hub.directory.journal import Audit
from gateway.hub.directory.matching import match_taps
from gateway.hub.directory.revision import in_turn, raise_revision, revision_of
from gateway.hub.directory.sites import Source, connect, removed_owners
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.locks import exclusive
from gateway.hub.sync.apply import Applier
from gateway.hub.sync.guard import Verdict, judge, read_limits
from gateway.hub.sync.known import load_known, origin_of
from gateway.hub.sync.operations import Operation, Plan
from gateway.hub.sync.plan import Feed, gather, make_plan
from gateway.mis.base import Capabilities, CheckResult, Complete, Connector, FeedItem

log = logging.getLogger(__name__)

APPROVAL_MS = 24 * 3600 * 1000
_TRIES = 5
_LISTED = 500


@dataclass(slots=True)
class Report:
    """The result of a run; `as_json` is the contract of `tapgate mis`."""

    run: int | None
    feed: Feed
    plan: Plan
    verdict: Verdict
    applied: int = 0
    held: int = 0
    matched_taps: int = 0
    result: str = "done"
    seconds: float = 0.0
    approval_missed: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "complete": self.feed.complete,
            "read": self.feed.read,
            **self.plan.counts(),
            "held": self.held,
            "applied": self.applied,
            "plan": self.verdict.plan,
            "result": self.result,
            "unreadable": len(self.feed.unreadable),
            "matched_taps": self.matched_taps,
            "seconds": round(self.seconds, 3),
            "reasons": self.verdict.reasons,
            "notices": self.plan.notices,
        }

    def details(self) -> dict[str, Any]:
        """Return the details for the page of a run: the first conflicts and unreadable rows."""
        return {
            **self.as_json(),
            "conflict_list": [msgspec.to_builtins(item) for item in self.plan.conflicts[:_LISTED]],
            "unreadable_list": [
                {"place": item.place, "why": item.why, "person_key": item.person_key}
                for item in self.feed.unreadable[:_LISTED]
            ],
        }


class Overlap(RetryError):
    """Another run of this source is under way."""


class Unsettled(RetryError):
    """The directory kept changing, so that no plan could be applied."""


class Retired:
    """Replaces a source that hub.toml no longer names: it is empty, so the guard holds the removal of its people."""

    capabilities = Capabilities(removes_staff=True)

    def check(self) -> CheckResult:
        return CheckResult("object_missing", "hub.toml no longer names this source.")

    def fetch(self, _state: str | None) -> Iterator[FeedItem]:
        yield Complete(0)


def preview(store: Store, source: Source, base: Path, named: Collection[str] | None = None) -> Report:
    """Compute a run without applying it; writes nothing.

    Args:
        named: the sources that hub.toml names for this site now.

    Raises:
        SourceUnreachable, SourceRefused: the source cannot be read, or a dropped source still has people.
    """
    started_ms = now_ms()
    connector = _connector(source, base)
    feed = gather(connector.fetch(source.state))
    with store.read() as connection:
        _refuse_second_owner(connection, source, named)
        plan, verdict = _compare(connection, source, feed, connector)
    result = "held" if verdict.held else "done" if feed.complete else "incomplete"
    seconds = (now_ms() - started_ms) / 1000
    return Report(None, feed, plan, verdict, held=len(verdict.held), result=result, seconds=seconds)


def sync(store: Store, source: Source, base: Path, approve: str | None = None, actor: str | None = None) -> Report:
    """Reconcile a source.

    Args:
        approve: the hash of a held plan that may be applied now.
        actor: who approves.

    Raises:
        Overlap: a run of this source is under way.
        SourceUnreachable, SourceRefused: the source cannot be read, or a dropped source still has people.
        Exception: any other error; like the others it is recorded as a failed run.
    """
    started_ms = now_ms()
    try:
        with exclusive(store, f"sync-{source.id}") as held:
            return _sync_alone(store, source, base, approve, actor, started_ms, is_alone=held is not None)
    except (Overlap, StoreUnavailable):
        raise
    except Exception as error:
        _fail(store, source, started_ms, error)
        raise


def _sync_alone(
    store: Store,
    source: Source,
    base: Path,
    approve: str | None,
    actor: str | None,
    started_ms: int,
    *,
    is_alone: bool,
) -> Report:
    if not is_alone:
        raise Overlap(f"A sync of {source.label} is already under way; wait for it to end.")
    run = _begin(store, source, started_ms)
    report = _run(store, source, base, run, approve, actor)
    report.seconds = (now_ms() - started_ms) / 1000
    _finish(store, source, run, report)
    return report


def _run(store: Store, source: Source, base: Path, run: int, approve: str | None, actor: str | None) -> Report:
    with store.read() as connection:
        _refuse_second_owner(connection, source)
    connector = _connector(source, base)
    feed = gather(connector.fetch(source.state))
    for _ in range(_TRIES):
        with store.read() as connection:
            compared_at = revision_of(connection, source.site)
            plan, verdict = _compare(connection, source, feed, connector)
            approved = verdict.plan if verdict.held and _is_approved(connection, source, verdict, approve) else None
        operations = plan.operations if approved else verdict.safe
        report = Report(run, feed, plan, verdict, held=0 if approved else len(verdict.held))
        report.approval_missed = approve is not None and approved is None
        report.result = "held" if report.held else "done" if feed.complete else "incomplete"
        with store.write() as connection:
            in_turn(connection, source.site)
            if revision_of(connection, source.site) != compared_at:
                continue
            report.matched_taps = _apply(connection, source, run, operations)
            report.applied = len(operations)
            if operations:
                raise_revision(connection, source.site)
            _keep_hold(connection, source, verdict, approved, actor)
        return report
    raise Unsettled(f"The directory of {source.site} changes faster than it can be compared; try again.")


def _connector(source: Source, base: Path) -> Connector:
    return Retired() if source.is_removed else connect(source, base)


def _refuse_second_owner(connection: Connection, source: Source, named: Collection[str] | None = None) -> None:
    """Refuse the first read of a source while a source that hub.toml dropped still has people.

    Most often the source was renamed; read as a new one it would add everybody a second time.
    """
    owners = removed_owners(connection, source.site, named)
    person = tables.person.c
    if not owners or source.is_removed:
        return
    if source.id and connection.scalar(select(person.ref).where(person.source == source.id).limit(1)) is not None:
        return
    names = " and ".join(f"{name} ({count} people)" for name, count in owners)
    raise SourceRefused(
        "owned_by_another",
        f"hub.toml no longer names the source {names} of {source.site}, whose people are still in the directory. If "
        f'{source.name} is its new name, write was = "{owners[0][0]}" in its section; else retire the old one first '
        f"(tapgate mis retire --source {owners[0][0]}).",
    )


def _compare(connection: Connection, source: Source, feed: Feed, connector: Connector) -> tuple[Plan, Verdict]:
    known = load_known(connection, source.site, source.id)
    plan = make_plan(feed, known, connector.capabilities)
    return plan, judge(plan, feed, known, read_limits(source.options))


def _apply(connection: Connection, source: Source, run: int, operations: list[Operation]) -> int:
    if not operations:
        # Finds taps that were committed while the last run applied its links.
        return match_taps(connection, now_ms())
    audit = Audit(origin_of(source.id), source.site, now_ms(), run)
    return Applier(connection, source.site, source.id, audit, source.new_card_state).apply(operations)


def _is_approved(connection: Connection, source: Source, verdict: Verdict, approve: str | None) -> bool:
    if approve is not None:
        return approve == verdict.plan
    hold = tables.hold
    approved_ms = connection.scalar(
        select(hold.c.approved_ms).where(
            hold.c.source == source.id, hold.c.plan == verdict.plan, hold.c.closed_ms.is_(None)
        )
    )
    return approved_ms is not None and now_ms() - approved_ms <= APPROVAL_MS


def _keep_hold(
    connection: Connection, source: Source, verdict: Verdict, approved: str | None, actor: str | None
) -> None:
    # A source has one open hold, that of this run. Older ones are closed; the same one is reopened.
    hold = tables.hold
    of_source = hold.c.source == source.id
    current = hold.c.plan == verdict.plan
    if approved:
        done = {"closed_ms": now_ms(), "outcome": "applied"}
        if actor:
            done |= {"approved_by": actor, "approved_ms": now_ms()}
        connection.execute(update(hold).where(of_source, current).values(done))
    superseded = {"closed_ms": now_ms(), "outcome": "superseded"}
    others = update(hold).where(of_source, hold.c.closed_ms.is_(None))
    connection.execute((others.where(~current) if verdict.held else others).values(superseded))
    if not verdict.held or approved:
        return
    diff = [msgspec.to_builtins(operation) for operation in verdict.held]
    found = connection.execute(select(hold.c.id, hold.c.closed_ms).where(of_source, current)).one_or_none()
    values: dict[str, Any] = {"reasons": verdict.reasons, "diff": diff}
    if found is None:
        connection.execute(insert(hold).values(source=source.id, plan=verdict.plan, created_ms=now_ms(), **values))
        return
    if found.closed_ms is not None:
        # An approval can be used once: the same plan held again needs a new one.
        values |= {"closed_ms": None, "outcome": None, "approved_by": None, "approved_ms": None}
    connection.execute(update(hold).where(hold.c.id == found.id).values(**values))


def approve_hold(store: Store, source: int, plan: str, actor: str) -> None:
    """Approve a held plan; the next run that would hold exactly it applies it.

    Raises:
        RefusedError: there is no such open hold.
    """
    hold = tables.hold
    with store.write() as connection:
        row = connection.execute(
            select(hold.c.id, tables.source.c.site)
            .join_from(hold, tables.source)
            .where(hold.c.source == source, hold.c.plan == plan, hold.c.closed_ms.is_(None))
        ).one_or_none()
        if row is None:
            raise RefusedError("This plan is no longer held; check the newest run.")
        approved = {"approved_by": actor, "approved_ms": now_ms()}
        connection.execute(update(hold).where(hold.c.id == row.id).values(approved))
        audit = Audit(actor, row.site, now_ms())
        audit.note("hold_approve", plan)
        audit.write(connection)


def _begin(store: Store, source: Source, started_ms: int) -> int:
    run = tables.sync_run
    with store.write() as connection:
        # We hold the lock, so a run still marked as running has died.
        connection.execute(
            update(run)
            .where(run.c.source == source.id, run.c.result == "running")
            .values(result="failed", error="died", finished_ms=started_ms)
        )
        started = insert(run).values(source=source.id, started_ms=started_ms, result="running")
        number = connection.scalar(started.returning(run.c.id))
    assert number is not None
    return int(number)


def _failure(error: Exception) -> str:
    match error:
        case SourceRefused():
            return f"{error.failure}: {error}"
        case TapgateError():
            return f"unreachable: {error}"
        case OSError():
            return f"failed: {error.strerror} ({error.filename})"
        case _:
            # An unexpected error may quote a row; its type is enough here, the log has the rest.
            return f"failed: {type(error).__name__}"


def _fail(store: Store, source: Source, started_ms: int, error: Exception) -> None:
    table = tables.sync_run
    values = {"result": "failed", "error": _failure(error), "finished_ms": now_ms()}
    running = update(table).where(table.c.source == source.id, table.c.result == "running")
    with store.write() as connection:
        if not connection.execute(running.values(values)).rowcount:
            # It failed before it started, for instance at its lock file.
            connection.execute(insert(table).values(source=source.id, started_ms=started_ms, **values))


def _finish(store: Store, source: Source, run: int, report: Report) -> None:
    table = tables.sync_run
    values = {
        "result": report.result,
        "finished_ms": now_ms(),
        "plan": report.verdict.plan,
        "report": report.details(),
    }
    with store.write() as connection:
        connection.execute(update(table).where(table.c.id == run).values(values))
        if report.feed.complete and report.feed.checkpoint:
            state = {"state": report.feed.checkpoint}
            connection.execute(update(tables.source).where(tables.source.c.id == source.id).values(state))
    log.info("sync of %s: %s, %d applied, %d held", source.label, report.result, report.applied, report.held)
