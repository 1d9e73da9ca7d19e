"""The jobs of sources: changes every few minutes, everything once a night, and a run that somebody asks for.

A failure that only other settings or a new secret can mend stops a source's jobs until its section in hub.toml, or a
file that it names, has changed; a run that somebody asks for is made all the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, update

from gateway.errors import RefusedError, SourceRefused, SourceUnreachable, TapgateError
from gateway.hub.directory.sites import NIGHTLY, Source, list_sources
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store
from gateway.hub.sync.run import Overlap, Wish, sync
from gateway.hub.work.jobs import Job, JobSpec, Outcome, follow, list_jobs, postpone
from gateway.hub.work.runner import Work
from gateway.hub.work.times import Timing

log = logging.getLogger(__name__)

CARDS, FULL = "cards", "full"
MINUTES = {CARDS: 15, FULL: 120}
ASK_AGAIN_MS = 5 * 60 * 1000
# Asking again the same way would get the same answer, and with a password may lock the account.
STOPS = frozenset(
    {"refused", "expired", "not_approved", "revoked", "permission_missing", "region_wrong", "not_supported"}
)
_HOST_OPTIONS = ("base_url", "service_url", "batch_url", "url", "host")


def source_work(store: Store, base: Path, read: Callable[[Source, str], str] | None = None) -> Work:
    """Return what the runner needs to run the jobs of all sources.

    Args:
        base: folder that relative paths of sources start from.
        read: reads one source for a kind of job and returns the word for its result; for tests.
    """

    def read_for(source: Source, kind: str) -> str:
        # Without a whole read at night, changes alone would never find whom the source forgot to name.
        has_nightly = source.options.get("nightly", NIGHTLY) is not False
        return sync(store, source, base, Wish(delta=kind == CARDS and has_nightly)).result

    def run(job: Job) -> Outcome:
        source = _source_of(store, job)
        if source is None:
            return Outcome("gone")
        return _try(source, job.kind, read or read_for)

    def host_of(job: Job) -> str | None:
        source = _source_of(store, job)
        return None if source is None else host_of_source(source)

    def note(job: Job, outcome: Outcome, started_ms: int) -> None:
        # Everything includes the cards.
        if job.kind == FULL and outcome.failure is None and not outcome.busy and job.source is not None:
            with store.write() as connection:
                postpone(connection, job.source, CARDS, started_ms)

    return Work(run, host_of, MINUTES, Follower(store, base), note)


class Follower:
    """Keeps the jobs of every source that is read, with the times of its settings; writes only what differs."""

    def __init__(self, store: Store, base: Path) -> None:
        self._store, self._base = store, base
        self._seen: list[JobSpec] | None = None

    def __call__(self, at_ms: int) -> None:
        with self._store.read() as connection:
            sources = list_sources(connection)
        specs = [item for source in sources for item in _jobs_of(source, self._base)]
        if specs == self._seen:
            return
        with self._store.write() as connection:
            self._store.one_at_a_time(connection)
            follow(connection, specs, (CARDS, FULL), at_ms)
        self._seen = specs


def request_run(connection: Connection, actor: str, source: Source, at_ms: int) -> None:
    """Let a source be read at once because somebody asks; audited.

    Raises:
        RefusedError: it was asked for less than five minutes ago, or the source has no jobs yet.
    """
    jobs = list_jobs(connection, source.id)
    job = next((job for job in jobs if job.kind == FULL), next(iter(jobs), None))
    if job is None:
        raise RefusedError(f"The source {source.label} is not scheduled yet; try again in a minute.")
    newest_ms = max((item.asked_ms or 0 for item in jobs), default=0)
    if at_ms - newest_ms < ASK_AGAIN_MS:
        minutes = -(-(ASK_AGAIN_MS - (at_ms - newest_ms)) // 60_000)
        raise RefusedError(f"A run of {source.label} was asked for already; ask again in {minutes} min.")
    values = {"next_ms": at_ms, "asked_ms": at_ms, "asked_by": actor}
    connection.execute(update(tables.job).where(tables.job.c.id == job.id).values(values))
    audit = Audit(actor, source.site, at_ms)
    audit.note("run_request", source.name)
    audit.write(connection)


def host_of_source(source: Source) -> str | None:
    """Return the host that a source reads from, None for a file."""
    for name in _HOST_OPTIONS:
        value = source.options.get(name)
        if isinstance(value, str) and value:
            return urlsplit(value).hostname or value
    return None


def _jobs_of(source: Source, base: Path) -> list[JobSpec]:
    settings = _settings_hash(source, base)
    every = Timing(every_minutes=max(1, round(source.every_seconds / 60)))
    cards = JobSpec(source.site, source.id, CARDS, every, settings)
    nightly = source.options.get("nightly", NIGHTLY)
    full = replace(cards, kind=FULL, timing=Timing(window=read_window(nightly)), at_once=False)
    return [cards] if nightly is False else [cards, full]


def read_window(text: object) -> tuple[time, time] | None:
    """Read `01:00-03:00`, None for what is none."""
    begins, _, ends = str(text).partition("-")
    try:
        return time.fromisoformat(begins), time.fromisoformat(ends)
    except ValueError:
        return None


def _settings_hash(source: Source, base: Path) -> str:
    """Name the settings of a source and the state of the files they name: a new password is a new setting too."""
    parts: list[Any] = [source.kind, dict(source.options)]
    for name, value in sorted(source.options.items()):
        if isinstance(value, str) and (name.endswith("_file") or name == "path"):
            try:
                found = (base / value).stat()
                parts.append((name, found.st_mtime_ns, found.st_ctime_ns, found.st_size))
            except OSError:
                parts.append((name, None))
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _source_of(store: Store, job: Job) -> Source | None:
    with store.read() as connection:
        return next((source for source in list_sources(connection, job.site) if source.id == job.source), None)


def _try(source: Source, kind: str, read: Callable[[Source, str], str]) -> Outcome:
    try:
        return Outcome(read(source, kind))
    except Overlap as error:
        log.info("%s", error)
        return Outcome("busy", busy=True)
    except SourceRefused as error:
        log.warning("sync of %s failed: %s The last good data stay in use.", source.label, error)
        # Where an agent reads, asking again asks this hub's own database, and no account can be locked.
        stops = error.failure in STOPS and source.kind != "agent"
        return Outcome("failed", error.failure, str(error), stops=stops)
    except TapgateError as error:
        log.warning("sync of %s failed: %s The last good data stay in use.", source.label, error)
        return Outcome("failed", "unreachable" if isinstance(error, SourceUnreachable) else "failed", str(error))
    except Exception as error:
        # An unexpected error of one source must not keep the others from being read.
        log.exception("sync of %s failed; the last good data stay in use", source.label)
        return Outcome("failed", "failed", f"An unexpected fault ({type(error).__name__}); see the log.")
