"""One sync run of a source: read, plan, guard, apply, record.

The source is read before any transaction begins. The plan is made from one snapshot of the database and applied only if
nothing has changed since; otherwise it is made again. What the guard holds is kept operation by operation (holds.py)
and applied by the next run that still wants it once somebody has approved it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, update

from gateway.access.people import fold_group
from gateway.errors import RetryError, SourceRefused, StoreUnavailable, TapgateError
from gateway.hub.directory.matching import match_taps
from gateway.hub.directory.revision import in_turn, raise_revision, revision_of
from gateway.hub.directory.sites import Source
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.locks import exclusive
from gateway.hub.sync import conflicts, holds, positions
from gateway.hub.sync.apply import Applier
from gateway.hub.sync.feed import Feed, gather
from gateway.hub.sync.guard import Verdict, judge, read_limits
from gateway.hub.sync.known import load_known, origin_of
from gateway.hub.sync.operations import Operation, Plan, Remove, op_hash
from gateway.hub.sync.plan import Rules, make_plan
from gateway.hub.sync.reading import connector_of, keep_reading, refuse_lost_fields, refuse_second_owner
from gateway.mis.base import LISTS, ROLES, Connector

log = logging.getLogger(__name__)

_TRIES = 5
_LISTED = 500
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run is asked for.

    Attributes:
        actor: who asks, None for the schedule.
        first: the first read of the source is meant: its people are let in without a preview.
        approve: the hash of everything held, which may be applied now.
        delta: ask only for what changed since the last read, where the source can tell.
    """

    trigger: str = "schedule"
    actor: str | None = None
    first: bool = False
    approve: str | None = None
    delta: bool = False


@dataclass(slots=True)
class Report:
    """The result of a run; `as_json` is the contract of `tapgate mis`."""

    run: int | None
    feed: Feed
    plan: Plan
    verdict: Verdict
    applied: int = 0
    held: int = 0
    new_conflicts: int = 0
    matched_taps: int = 0
    result: str = "done"
    seconds: float = 0.0
    approval_missed: bool = False
    is_first: bool = False
    refused: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "complete": self.feed.complete,
            "delta": self.feed.is_delta,
            "read": self.feed.read,
            "lists": {name: msgspec.to_builtins(one) for name, one in self.feed.lists.items()},
            **self.plan.counts(),
            "new_conflicts": self.new_conflicts,
            "held": self.held,
            "refused": self.refused,
            "applied": self.applied,
            "plan": self.verdict.plan,
            "result": self.result,
            "first": self.is_first,
            "unchanged": self.feed.complete and not self.plan.operations,
            "unreadable": len(self.feed.unreadable),
            "matched_taps": self.matched_taps,
            "seconds": round(self.seconds, 3),
            "reasons": self.verdict.reasons,
            "notices": self.plan.notices,
        }

    def held_operations(self) -> list[dict[str, str]]:
        """Return what is held, each with its hash, what it would do and why it waits."""
        return [
            {"hash": op_hash(item), "what": item.what, "why": why}
            for item, why in zip(self.verdict.held, self.verdict.why, strict=True)
        ]

    def details(self) -> dict[str, Any]:
        """Return the details for the page of a run: counts and the first unreadable rows."""
        return {
            **self.as_json(),
            "unreadable_list": [
                {"place": item.place, "why": item.why, "person_key": item.person_key}
                for item in self.feed.unreadable[:_LISTED]
            ],
        }


class Overlap(RetryError):
    """Another run of this source is under way."""


class Unsettled(RetryError):
    """The directory kept changing, so that no plan could be applied."""


def preview(store: Store, source: Source, base: Path, named: Collection[str] | None = None) -> Report:
    """Compute a run without applying it; writes nothing.

    Args:
        named: the sources that hub.toml names for this site now.

    Raises:
        SourceUnreachable, SourceRefused: the source cannot be read, or a dropped source still has people.
    """
    started_ms = now_ms()
    connector = connector_of(store, source, base)
    feed = gather(connector.fetch((), {}))
    with store.read() as connection:
        refuse_second_owner(connection, source, named)
        refuse_lost_fields(source, feed)
        # What `--first` would do: that everything waits for it is no news to whoever looks first.
        plan, verdict, is_first = _compare(connection, source, feed, connector, Wish(first=True))
    result = "held" if verdict.held else "done" if feed.complete else "incomplete"
    seconds = (now_ms() - started_ms) / 1000
    held = len(verdict.held)
    return Report(None, feed, plan, verdict, held=held, result=result, seconds=seconds, is_first=is_first)


def sync(store: Store, source: Source, base: Path, wish: Wish | None = None) -> Report:
    """Reconcile a source.

    Raises:
        Overlap: a run of this source is under way.
        SourceUnreachable, SourceRefused: the source cannot be read, or a dropped source still has people.
        Exception: any other error; like the others it is recorded as a failed run.
    """
    started_ms = now_ms()
    try:
        with exclusive(store, f"sync-{source.id}") as held:
            return _sync_alone(store, source, base, wish or Wish(), started_ms, is_alone=held is not None)
    except (Overlap, StoreUnavailable):
        raise
    except Exception as error:
        _fail(store, source, started_ms, error)
        raise


def _sync_alone(store: Store, source: Source, base: Path, wish: Wish, started_ms: int, *, is_alone: bool) -> Report:
    if not is_alone:
        raise Overlap(f"A sync of {source.label} is already under way; wait for it to end.")
    run = _begin(store, source, started_ms, wish)
    report = _run(store, source, base, run, wish)
    report.seconds = (now_ms() - started_ms) / 1000
    _finish(store, source, run, report)
    return report


def _run(store: Store, source: Source, base: Path, run: int, wish: Wish) -> Report:
    began_ms = now_ms()
    with store.read() as connection:
        refuse_second_owner(connection, source)
        cursors = positions.positions_of(connection, source) if wish.delta else {}
    connector = connector_of(store, source, base)
    progress = _Progress(store, run)
    progress("read", 0)
    feed = gather(connector.fetch((), cursors), lambda count: progress("read", count))
    refuse_lost_fields(source, feed)
    progress("plan", feed.read)
    for _ in range(_TRIES):
        with store.read() as connection:
            compared_at = revision_of(connection, source.site)
            plan, verdict, is_first = _compare(connection, source, feed, connector, wish)
            approved, refused = holds.decided(connection, source.id)
            is_doubtful = bool(cursors) and feed.is_delta and positions.needs_whole_read(connection, source, plan)
        if is_doubtful:
            cursors = {}
            progress("read", 0)
            feed = gather(connector.fetch((), cursors), lambda count: progress("read", count))
            continue
        whole = wish.approve is not None and verdict.held and wish.approve == verdict.plan
        if whole:
            approved = {op_hash(item) for item in verdict.held}
        holds.release(verdict, approved)
        stopped = holds.stop(verdict, refused)
        report = Report(run, feed, plan, verdict, held=len(verdict.held) - stopped, refused=stopped, is_first=is_first)
        report.approval_missed = wish.approve is not None and not whole and bool(report.held)
        report.result = "held" if report.held else "done" if feed.complete else "incomplete"
        progress("apply", 0, len(verdict.safe))
        with store.write() as connection:
            in_turn(connection, source.site)
            if revision_of(connection, source.site) != compared_at:
                continue
            report.matched_taps = _apply(connection, source, run, verdict.safe)
            report.applied = len(verdict.safe)
            if verdict.safe:
                raise_revision(connection, source.site)
            is_whole = not feed.is_delta
            holds.keep(connection, source.id, run, verdict, verdict.safe, is_whole=is_whole)
            report.new_conflicts = conflicts.keep(
                connection, source.id, run, plan.conflicts, is_complete=feed.complete and is_whole
            )
            agreed = bool(is_first and report.applied and not report.held)
            keep_reading(connection, source, feed, is_agreed=agreed)
            _keep_positions(connection, source, report, began_ms)
        return report
    raise Unsettled(f"The directory of {source.site} changes faster than it can be compared; try again.")


def _keep_positions(connection: Connection, source: Source, report: Report, began_ms: int) -> None:
    if report.held or positions.is_decided_since(connection, source.id, began_ms):
        # Not everything that was read is applied, so it is read again.
        return
    if any(isinstance(item, Remove) and not item.at_once for item in report.verdict.safe):
        # Only a second whole read tells whether they have left.
        positions.forget(connection, source.id)
        return
    positions.keep(connection, source, report.run or 0, report.feed.checkpoints)


@dataclass(slots=True)
class _Progress:
    """Tells how far a run has come, at most once a second."""

    store: Store
    run: int
    _told_at: float = field(default=0.0)
    _step: str = ""

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if step == self._step and now - self._told_at < _PROGRESS_SECONDS:
            return
        self._step, self._told_at = step, now
        table = tables.sync_run
        with self.store.write() as connection:
            values = {"step": step, "done": done, "total": total}
            connection.execute(update(table).where(table.c.id == self.run).values(values))


def _compare(
    connection: Connection, source: Source, feed: Feed, connector: Connector, wish: Wish
) -> tuple[Plan, Verdict, bool]:
    known = load_known(connection, source.site, source.id)
    plan = make_plan(feed, known, connector.capabilities, now_ms(), _rules(source))
    is_first = source.agreed_ms is None and not source.is_removed
    # An empty first read is never meant, and there is nothing in it to hold.
    hold_all = is_first and not wish.first
    verdict = judge(plan, feed, known, read_limits(source.options), is_first=hold_all)
    if not is_first:
        holds.hold_again(connection, source.id, verdict)
    return plan, verdict, is_first


def _rules(source: Source) -> Rules:
    lists = source.options.get("lists")
    roles = {role for name in lists for role in LISTS.get(name, ())} if lists else set(ROLES)
    years = frozenset(fold_group(str(year)) for year in source.options.get("years", ()))
    cards_only = source.options.get("purpose") == "cards_only"
    return Rules(source.is_removed, cards_only, frozenset(roles), years, source.options.get("pupil_emails"))


def _apply(connection: Connection, source: Source, run: int, operations: list[Operation]) -> int:
    if not operations:
        # Finds taps that were committed while the last run applied its links.
        return match_taps(connection, now_ms())
    audit = Audit(origin_of(source.id), source.site, now_ms(), run)
    return Applier(connection, source.site, source.id, audit, source.new_card_state).apply(operations)


def _begin(store: Store, source: Source, started_ms: int, wish: Wish) -> int:
    run = tables.sync_run
    with store.write() as connection:
        # We hold the lock, so a run still marked as running has died.
        connection.execute(
            update(run)
            .where(run.c.source == source.id, run.c.result == "running")
            .values(result="failed", error="died", finished_ms=started_ms)
        )
        request = {"trigger": wish.trigger, "actor": wish.actor, "step": "read", "done": 0}
        started = insert(run).values(source=source.id, started_ms=started_ms, result="running", **request)
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
    details = report.details()
    values = {
        "result": report.result,
        "step": None,
        "finished_ms": now_ms(),
        "plan": details["plan"],
        "report": details,
    }
    with store.write() as connection:
        connection.execute(update(table).where(table.c.id == run).values(values))
    log.info("sync of %s: %s, %d applied, %d held", source.label, report.result, report.applied, report.held)
