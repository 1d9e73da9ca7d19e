"""The pages' side of the panel: queries the daemon, receives its pushes, and reconnects."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.edge.panel import messages, wire
from gateway.edge.teaching import Lesson
from gateway.errors import BadMessage, FatalError, RetryError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0
VIEW_SECONDS = 0.25
_PAUSES = (0.1, 0.2, 0.5, 1.0)
_Answer = TypeVar("_Answer", messages.Snapshot, messages.Rows, messages.Done, messages.LessonNow)


class PanelDown(RetryError):
    """The daemon does not answer; the pages have no current data."""


class Panel:
    """A connection to the daemon that reconnects by itself.

    Args:
        on_fact: called with every pushed fact, and with Changed after a reconnect, on the panel's thread.
    """

    def __init__(self, path: Path, on_fact: Callable[[messages.Fact], None] = lambda _fact: None) -> None:
        self._path, self.on_fact = path, on_fact
        self.welcome: messages.Welcome | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[threading.Event, list[messages.Fact]]] = {}
        self._last: tuple[float, messages.Snapshot] | None = None
        self._stopping = threading.Event()
        self._greeted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="panel", daemon=True)

    def start(self, patience_seconds: float | None = None) -> messages.Welcome:
        """Connect, and wait for the daemon's welcome.

        Raises:
            PanelDown: it did not come in time; without a patience this waits forever.
            FatalError: the daemon speaks another version of the panel.
        """
        self._thread.start()
        self._greeted.wait(patience_seconds)
        if self.welcome is None:
            raise PanelDown(f"The gateway daemon does not answer at {self._path}.")
        if self.welcome.version != messages.VERSION:
            raise FatalError(
                f"The daemon speaks version {self.welcome.version} of the panel, these pages {messages.VERSION}; "
                "restart both after an update."
            )
        return self.welcome

    def stop(self) -> None:
        self._stopping.set()
        self._hang_up()
        if self._thread.is_alive():
            self._thread.join(5)

    def wait_until_lost(self, seconds: float) -> None:
        """Return once the daemon has been away for this long."""
        away_since: float | None = None
        while not self._stopping.wait(0.5):
            if self._socket is not None:
                away_since = None
            elif away_since is None:
                away_since = time.monotonic()
            elif time.monotonic() - away_since > seconds:
                return

    def look(self) -> messages.Snapshot:
        """Return the state of the gateway, not older than VIEW_SECONDS.

        Raises:
            PanelDown: the daemon does not answer.
        """
        last = self._last
        if last is not None and time.monotonic() - last[0] < VIEW_SECONDS and self._socket is not None:
            return last[1]
        fresh = self._ask(messages.Look, messages.Snapshot)
        self._last = (time.monotonic(), fresh)
        return fresh

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return at most `limit` recorded events after a number, oldest first.

        Raises:
            PanelDown: the daemon does not answer.
        """
        limit = min(limit, messages.MAX_ROWS)
        return list(self._ask(lambda number: messages.After(number, max(0, seq), limit), messages.Rows).rows)

    def identify(self, reader: str, actor: str) -> bool:
        """Let a reader blink; False when there is none of that name.

        Raises:
            PanelDown: the daemon does not answer.
        """
        key = secrets.token_hex(8)
        return self._ask(lambda number: messages.Identify(number, reader, actor, key), messages.Done).ok

    def teach(self, reader: str | None, actor: str) -> bool:
        """Open a teaching window at a reader, or close it.

        Raises:
            PanelDown: the daemon does not answer.
        """
        key = secrets.token_hex(8)
        return self._ask(lambda number: messages.Teach(number, reader, actor, key), messages.Done).ok

    def choose(self, point: str, shown: str, option: str) -> bool:
        """Choose something at a kiosk; False when its screen has moved on.

        Raises:
            PanelDown: the daemon does not answer.
        """
        key = secrets.token_hex(8)
        return self._ask(lambda number: messages.Choose(number, point, shown, option, key), messages.Done).ok

    def lesson(self) -> Lesson:
        """Return what the teaching page shows.

        Raises:
            PanelDown: the daemon does not answer.
        """
        return self._ask(messages.AskLesson, messages.LessonNow).lesson

    def report_serving(self, address: str, fault: str | None = None) -> None:
        """Report to the daemon where the pages listen, or why they cannot.

        Raises:
            PanelDown: the daemon does not answer.
        """
        self._ask(lambda number: messages.Serving(number, address, fault), messages.Done)

    def _ask(self, make: Callable[[int], messages.Question], kind: type[_Answer]) -> _Answer:
        number = next(self._numbers)
        arrived, place = threading.Event(), list[messages.Fact]()
        with self._lock:
            connection = self._socket
            self._answers[number] = (arrived, place)
        try:
            if connection is None:
                raise PanelDown("The gateway daemon does not answer.")
            with self._sending:
                wire.send(connection, messages.encode(make(number)))
            if not arrived.wait(ANSWER_SECONDS) or not place:
                raise PanelDown(f"The gateway daemon did not answer within {ANSWER_SECONDS:g} s.")
            (fact,) = place
            if not isinstance(fact, kind):
                raise PanelDown(f"The gateway daemon answered with {type(fact).__name__}.")
        except OSError as error:
            raise PanelDown(f"The gateway daemon does not answer ({error.strerror}).") from None
        finally:
            with self._lock:
                self._answers.pop(number, None)
        return fact

    def _run(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                self._converse()
                tries = 0
            except (OSError, BadMessage, msgspec.DecodeError) as error:
                log.debug("the daemon is away: %s", error)
            self._hang_up()
            self._stopping.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def _converse(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with wire.short_path(self._path) as name:
                connection.connect(name)
            self._take(connection, self._receive(connection))
            self.on_fact(messages.Changed())
            while (fact := self._receive(connection)) is not None:
                self._sort(fact)
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _take(self, connection: socket.socket, first: messages.Fact | None) -> None:
        if not isinstance(first, messages.Welcome):
            raise BadMessage("The daemon did not begin with a welcome.")
        with self._lock:
            self.welcome, self._socket = first, connection
        self._greeted.set()

    @staticmethod
    def _receive(connection: socket.socket) -> messages.Fact | None:
        payload = wire.receive(connection, messages.MAX_FACT_BYTES)
        return None if payload is None else messages.decode_fact(payload)

    def _sort(self, fact: messages.Fact) -> None:
        number = getattr(fact, "id", None)
        if number is None:
            self.on_fact(fact)
            return
        with self._lock:
            waiting = self._answers.get(number)
        if waiting is not None:
            waiting[1].append(fact)
            waiting[0].set()

    def _hang_up(self) -> None:
        with self._lock:
            connection, self._socket = self._socket, None
            waiting = list(self._answers.values())
        for arrived, _ in waiting:
            arrived.set()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
