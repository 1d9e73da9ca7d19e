"""Reads that an agent at a school sends: taken in line by line, resumed by line, read when they are whole.

An agent's read is stored as it arrives; a connection that breaks costs nothing, because the agent asks for the next
line. Only a whole read with the right digest takes the place of the one before, and a sync reads only whole ones. While
the agent says that it cannot read, a sync is refused with its word, as if the hub had met the fault itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.errors import BadRecord, RefusedError, SourceRefused, SourceUnreachable
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.mis.agent import AgentSource
from gateway.mis.base import Capabilities, CheckResult, FeedItem, FieldSeen
from gateway.mis.lines import read_line
from gateway.mis.summary import failed

MOST_BYTES, MOST_LINES = 64 << 20, 600_000
# The trigger of a row in the list of runs that an agent wrote.
_TRIGGER = "agent"
_HOUR_MS = 3600 * 1000


class WrongLine(RefusedError):
    """Lines came for another place than the next one; `next_line` is where the hub goes on."""

    def __init__(self, message: str, next_line: int) -> None:
        super().__init__(message)
        self.next_line = next_line


class BadLine(RefusedError):
    """A line is none of a read; sending it again is useless. `line` is its number."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class TooLarge(RefusedError):
    """A read is larger than a school's can be."""


def begin(connection: Connection, source: int, at_ms: int) -> int:
    """Begin a new read of a source and return its number; one that was under way is dropped."""
    table = tables.upload
    _drop(connection, source, "open")
    row = {"source": source, "state": "open", "next_line": 0, "bytes": 0, "created_ms": at_ms, "seen_ms": at_ms}
    return int(connection.execute(insert(table).values(row).returning(table.c.id)).scalar_one())


def next_line(connection: Connection, source: int, upload: int) -> int:
    """Return how many lines of an open read have arrived.

    Raises:
        RefusedError: there is no such read; begin a new one.
    """
    return int(_open(connection, source, upload).next_line)


def append(connection: Connection, source: int, upload: int, first_line: int, data: bytes) -> int:
    """Take in some whole lines and return the next line; a last line without its end is left to the next call.

    Raises:
        WrongLine: these are not the next lines.
        BadLine: one of them cannot be used; nothing of them is kept.
        TooLarge: the read becomes too large.
        RefusedError: there is no such read.
    """
    row = _open(connection, source, upload)
    if first_line != row.next_line:
        raise WrongLine(f"The next line is {row.next_line}.", row.next_line)
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.splitlines()
    for number, line in enumerate(lines, first_line):
        try:
            read_line(line)
        except BadRecord as error:
            raise BadLine(f"Line {number} cannot be used: {error}", number) from None
    if row.bytes + len(whole) > MOST_BYTES:
        raise TooLarge(f"A read may have at most {MOST_BYTES >> 20} MiB; ask whether the source is the right one.")
    if row.next_line + len(lines) > MOST_LINES:
        raise TooLarge(f"A read may have at most {MOST_LINES} lines; ask whether the source is the right one.")
    if not lines:
        return int(row.next_line)
    connection.execute(insert(tables.upload_part).values(upload=upload, first_line=first_line, data=whole))
    after = first_line + len(lines)
    values = {"next_line": after, "bytes": row.bytes + len(whole), "seen_ms": now_ms()}
    connection.execute(update(tables.upload).where(tables.upload.c.id == upload).values(values))
    return after


def complete(connection: Connection, source: int, upload: int, lines: int, digest: str, at_ms: int) -> None:
    """Let a read that has arrived whole take the place of the one before.

    Raises:
        WrongLine: lines are missing, or what arrived is not what was sent; in that case begin again.
    """
    row = _open(connection, source, upload)
    if lines != row.next_line:
        raise WrongLine(f"{row.next_line} lines have arrived, not {lines}.", row.next_line)
    found = hashlib.sha256()
    for data in _parts(connection, upload):
        found.update(data)
    if found.hexdigest() != digest:
        raise WrongLine("What arrived is not what was sent; begin again.", 0)
    _drop(connection, source, "whole")
    values = {"state": "whole", "digest": digest, "seen_ms": at_ms}
    connection.execute(update(tables.upload).where(tables.upload.c.id == upload).values(values))


def still_same(connection: Connection, source: int, digest: str, at_ms: int) -> bool:
    """Note that a source still reads like the newest whole read; return False when that is another one."""
    table = tables.upload
    same = (table.c.source == source, table.c.state == "whole", table.c.digest == digest)
    return connection.execute(update(table).where(*same).values(seen_ms=at_ms)).rowcount == 1


def note_failure(connection: Connection, source: int, actor: str, word: str, detail: str, at_ms: int) -> None:
    """Note in the list of runs why the agent cannot read its source; the same fault again only moves its end."""
    table = tables.sync_run
    # What comes from another machine stays one line of the log.
    text = " ".join("".join(one if one.isprintable() else " " for one in detail).split())
    error = f"{word}: {text}"
    newest = connection.scalar(select(func.max(table.c.id)).where(table.c.source == source))
    same = (table.c.id == newest, table.c.trigger == _TRIGGER, table.c.error == error)
    if connection.execute(update(table).where(*same).values(finished_ms=at_ms)).rowcount:
        return
    row = {"source": source, "started_ms": at_ms, "finished_ms": at_ms, "result": "failed", "trigger": _TRIGGER}
    connection.execute(insert(table).values(**row, actor=actor, error=error))


def _open(connection: Connection, source: int, upload: int) -> Any:
    table = tables.upload
    query = select(table).where(table.c.id == upload, table.c.source == source, table.c.state == "open")
    row = connection.execute(query).one_or_none()
    if row is None:
        raise RefusedError("There is no such read under way; begin a new one.")
    return row


def _drop(connection: Connection, source: int, state: str) -> None:
    table, part = tables.upload, tables.upload_part
    old = select(table.c.id).where(table.c.source == source, table.c.state == state)
    connection.execute(delete(part).where(part.c.upload.in_(old)))
    connection.execute(delete(table).where(table.c.source == source, table.c.state == state))


def _parts(connection: Connection, upload: int) -> Iterator[bytes]:
    part = tables.upload_part
    query = select(part.c.data).where(part.c.upload == upload).order_by(part.c.first_line)
    for row in connection.execution_options(yield_per=16).execute(query):
        yield bytes(row.data)


@dataclass(slots=True)
class UploadedSource:
    """A connector over what an agent sent last."""

    store: Store
    source: int
    settings: AgentSource
    capabilities: Capabilities = field(init=False)

    def __post_init__(self) -> None:
        self.capabilities = self.settings.capabilities

    def check(self) -> CheckResult:
        try:
            with self.store.read() as connection:
                row = self._newest(connection)
        except (SourceRefused, SourceUnreachable) as error:
            return failed(error)
        minutes = (now_ms() - row.seen_ms) // 60_000
        return CheckResult(None, f"The agent's last read has {row.next_line} lines; it was heard {minutes} min ago.")

    def discover(self) -> Iterator[FieldSeen]:
        return self.settings.discover()

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Return the items of the newest whole read.

        Raises:
            SourceRefused: none has arrived, the agent has been silent for too long, or it says that it is refused.
            SourceUnreachable: the agent says that it does not reach its source.
        """
        del lists, cursors
        with self.store.read() as connection:
            row = self._newest(connection)
            for data in _parts(connection, row.id):
                for line in data.splitlines():
                    yield read_line(line)

    def _newest(self, connection: Connection) -> Any:
        table = tables.upload
        query = select(table).where(table.c.source == self.source, table.c.state == "whole")
        row = connection.execute(query).one_or_none()
        failure = self._failure(connection)
        seen_ms = row.seen_ms if row is not None else 0
        if failure is not None and failure.finished_ms > seen_ms:
            word, _, detail = failure.error.partition(": ")
            text = f"The agent at the school says: {detail}"
            if now_ms() - failure.finished_ms <= self.settings.stale_hours * _HOUR_MS:
                raise SourceUnreachable(text) if word == "unreachable" else SourceRefused(word, text)
        if row is None:
            raise SourceRefused(
                "object_missing",
                "The agent at the school has not sent a whole read yet; run `tapgate agent check` there.",
            )
        if now_ms() - row.seen_ms > self.settings.stale_hours * _HOUR_MS:
            hours = (now_ms() - row.seen_ms) // _HOUR_MS
            raise SourceRefused(
                "unreachable",
                f"The agent at the school has not been heard for {hours} h; look at its machine and its network.",
            )
        return row

    def _failure(self, connection: Connection) -> Any:
        table = tables.sync_run
        query = select(table.c.error, table.c.finished_ms).where(table.c.source == self.source)
        query = query.where(table.c.trigger == _TRIGGER).order_by(table.c.id.desc()).limit(1)
        return connection.execute(query).one_or_none()
