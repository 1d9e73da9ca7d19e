"""One round of the agent: read the source, keep the read on disk, send what the hub lacks of it.

The read is written before anything is sent, so that a broken connection or a restart goes on at the hub's line, and a
hub that is away gets the newest read when it is back. A source that reads like last time is only said to be the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.agent.hub import Hub, HubRefused
from gateway.errors import BadRecord, FatalError, SourceRefused, SourceUnreachable
from gateway.mis.base import Connector, FeedItem, Gone, Record, Unreadable
from gateway.mis.lines import read_line, write_line

READ_FILE, STATE_FILE = "read.ndjson", "state.json"
# The hub takes 64 KiB a request.
_PIECE_BYTES = 48 << 10
_TRIES = 3
# What the hub answers to a read that it can never take, and the word for it.
_USELESS = {413: "too_large", 422: "format"}


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did; `lines` of them are `sent` now."""

    lines: int
    sent: int
    is_same: bool
    digest: str


class Agent:
    """Reads one source and keeps one hub up to date with it."""

    def __init__(self, connector: Connector, hub: Hub, state_dir: Path) -> None:
        self._connector, self._hub, self._folder = connector, hub, state_dir

    def round(self) -> Round:
        """Read the source and send it.

        Raises:
            SourceUnreachable, SourceRefused: the source cannot be read; the hub was told.
            HubUnreachable, HubRefused: the hub cannot be reached or refuses; the read waits on disk.
            FatalError: the state folder cannot be written.
        """
        try:
            self._read()
        except (SourceRefused, SourceUnreachable) as error:
            word = error.failure if isinstance(error, SourceRefused) else "unreachable"
            self._hub.tell_failure(word, str(error))
            raise
        try:
            return self.send()
        except HubRefused as error:
            if (useless := _USELESS.get(error.status)) is not None:
                self._hub.tell_failure(useless, str(error))
            raise

    def send(self) -> Round:
        """Send the newest read on disk as far as the hub lacks it."""
        data = (self._folder / READ_FILE).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        lines = data.count(b"\n")
        if self._hub.is_same(digest):
            return Round(lines, 0, is_same=True, digest=digest)
        sent = 0
        for _ in range(_TRIES):
            upload, at = self._go_on(digest)
            try:
                for first, piece in _pieces(data, at):
                    at = self._hub.append(upload, first, piece)
                    sent += piece.count(b"\n")
                self._hub.complete(upload, lines, digest)
                break
            except HubRefused as error:
                # Another program sent to this source meanwhile, or the hub dropped the read: begin again.
                if error.status not in {404, 409}:
                    raise
                self._keep_state({})
        else:
            raise HubRefused("The hub takes this read from nobody: look whether two agents send the same source.", 409)
        self._keep_state({})
        return Round(lines, sent, is_same=False, digest=digest)

    def _go_on(self, digest: str) -> tuple[int, int]:
        state = self._state()
        if state.get("digest") == digest and isinstance(state.get("upload"), int):
            at = self._hub.next_line(state["upload"])
            if at is not None:
                return state["upload"], at
        upload = self._hub.begin()
        self._keep_state({"digest": digest, "upload": upload})
        return upload, 0

    def _read(self) -> None:
        target = self._folder / READ_FILE
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = target.with_suffix(".part")
            with part.open("wb") as file:
                part.chmod(0o600)
                for item in self._connector.fetch((), {}):
                    file.write(_line_of(item))
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            raise FatalError(
                f"The agent cannot write to {self._folder} ({error.strerror}); correct state_dir or its owner."
            ) from None

    def _state(self) -> dict[str, Any]:
        try:
            found = json.loads((self._folder / STATE_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep_state(self, state: dict[str, Any]) -> None:
        part = self._folder / f"{STATE_FILE}.part"
        part.write_text(json.dumps(state), encoding="ascii")
        part.replace(self._folder / STATE_FILE)


def _line_of(item: FeedItem) -> bytes:
    """Return the line of an item; a row that the hub would refuse costs that row and not the whole read.

    Raises:
        SourceRefused: it is about the whole read.
    """
    line = write_line(item)
    try:
        read_line(line)
    except BadRecord as error:
        if not isinstance(item, Record | Gone | Unreadable):
            raise SourceRefused("too_large", f"What the source says of itself cannot be sent: {error}") from None
        return write_line(Unreadable(item.place, f"This row cannot be sent to the hub: {error}"))
    return line


def _pieces(data: bytes, first_line: int) -> Iterator[tuple[int, bytes]]:
    """Cut the lines from one on into pieces of whole lines, each with the number of its first line."""
    piece: list[bytes] = []
    size, first = 0, first_line
    for number, line in enumerate(data.splitlines(keepends=True)):
        if number < first_line:
            continue
        if piece and size + len(line) > _PIECE_BYTES:
            yield first, b"".join(piece)
            piece, size, first = [], 0, number
        piece.append(line)
        size += len(line)
    if piece:
        yield first, b"".join(piece)
