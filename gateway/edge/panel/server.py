"""The daemon's side of the panel: answers questions, pushes facts, and never makes a tap wait.

Each connection has two threads: one reads questions and answers them, one writes. What is pushed goes into a bounded
queue; a listener that does not read loses facts, is sent Changed, and asks again.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.edge.panel import messages, wire
from gateway.edge.teaching import Lesson
from gateway.errors import BadMessage, FatalError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4
QUESTIONS_PER_SECOND = 200.0
_QUEUE = 1024
_KEYS = 256
_SEND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PanelSource:
    """The daemon's answers; every call returns soon and may come from any thread."""

    welcome: Callable[[], messages.Welcome]
    look: Callable[[int], messages.Snapshot]
    after: Callable[[int, int], list[tuple[int, bytes]]]
    identify: Callable[[str, str], bool]
    teach: Callable[[str | None, str], bool]
    lesson: Callable[[], Lesson]
    choose: Callable[[str, str, str], bool]
    serving: Callable[[str, str | None], None]


class PanelServer:
    """Listens on one Unix socket that the pages' account alone may open."""

    def __init__(self, path: Path, source: PanelSource) -> None:
        self.path, self._source = path, source
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._done: OrderedDict[str, bool] = OrderedDict()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, name="panel", daemon=True)

    def start(self) -> None:
        """Bind and answer in the background.

        Raises:
            FatalError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            with wire.short_path(self.path) as name:
                listener.bind(name)
            # It inherits the folder's group where that has the set-group-ID bit (see systemd/tapgate.tmpfiles.conf).
            self.path.chmod(0o660)
            listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise FatalError(f"The socket {self.path} for the pages cannot be made ({error.strerror}).") from None
        self._listener = listener
        self._thread.start()

    def stop(self) -> None:
        """Close every connection; never raises."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()
        self._thread.join(5)
        with contextlib.suppress(OSError):
            self.path.unlink()

    @property
    def listeners(self) -> int:
        """Return how many processes listen."""
        return len(self._connections)

    def push(self, fact: messages.Fact) -> None:
        """Hand a fact to every listener; callable from any thread, never waits."""
        if not self._connections:
            return
        with self._lock:
            for connection in self._connections:
                connection.put(fact)

    def _accept(self) -> None:
        while (listener := self._listener) is not None:
            try:
                accepted, _ = listener.accept()
            except OSError:
                if self._listener is None:
                    return
                # Out of descriptors, for instance: taps keep working, the pages come later.
                time.sleep(0.5)
                continue
            connection = _Connection(accepted, self)
            with self._lock:
                full = len(self._connections) >= MAX_CONNECTIONS
                if not full:
                    self._connections.add(connection)
            if full:
                accepted.close()
            else:
                connection.start()

    def forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def answer(self, question: messages.Question) -> messages.Fact:
        """Answer one question."""
        source = self._source
        match question:
            case messages.Look():
                return source.look(question.id)
            case messages.After():
                return messages.Rows(question.id, tuple(source.after(question.seq, question.limit)))
            case messages.Identify():
                return self._once(question.id, question.key, lambda: source.identify(question.reader, question.actor))
            case messages.Teach():
                return self._once(question.id, question.key, lambda: source.teach(question.reader, question.actor))
            case messages.AskLesson():
                return messages.LessonNow(question.id, source.lesson())
            case messages.Choose(number, point, shown, option, key):
                return self._once(number, key, lambda: source.choose(point, shown, option))
            case messages.Serving():
                source.serving(question.address, question.fault)
                return messages.Done(question.id, ok=True)

    def welcome(self) -> messages.Welcome:
        return self._source.welcome()

    def _once(self, number: int, key: str, act: Callable[[], bool]) -> messages.Done:
        with self._lock:
            known = self._done.get(key)
        if known is None:
            known = act()
            with self._lock:
                self._done[key] = known
                while len(self._done) > _KEYS:
                    self._done.popitem(last=False)
        return messages.Done(number, known)


class _Connection:
    """One process that listens."""

    def __init__(self, connection: socket.socket, server: PanelServer) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_SEND_SECONDS))
        self._socket, self._server = connection, server
        self._waiting: deque[messages.Fact] = deque()
        self._ready = threading.Condition()
        self._closed = False

    def start(self) -> None:
        self.put(self._server.welcome())
        for target in (self._read, self._write):
            threading.Thread(target=target, name="panel", daemon=True).start()

    def put(self, fact: messages.Fact) -> None:
        with self._ready:
            if len(self._waiting) >= _QUEUE:
                self._waiting.clear()
                fact = messages.Changed()
            elif isinstance(fact, messages.Changed) and self._waiting and self._waiting[-1] == fact:
                return
            self._waiting.append(fact)
            self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        next_at = time.monotonic()
        try:
            while (payload := wire.receive(self._socket, messages.MAX_QUESTION_BYTES)) is not None:
                self.put(self._server.answer(messages.decode_question(payload)))
                # A client that asks faster than this waits here, on a thread of its own.
                next_at = max(next_at + 1 / QUESTIONS_PER_SECOND, time.monotonic() - 1)
                if (early := next_at - time.monotonic()) > 0:
                    time.sleep(early)
        except (BadMessage, msgspec.DecodeError) as error:
            log.warning("the pages sent an invalid question; closing their connection: %s", error)
        except OSError:
            pass
        except Exception:
            log.exception("a question of the pages could not be answered; closing their connection")
        self.close()

    def _write(self) -> None:
        try:
            while True:
                with self._ready:
                    while not self._waiting and not self._closed:
                        self._ready.wait()
                    if self._closed:
                        break
                    fact = self._waiting.popleft()
                wire.send(self._socket, messages.encode(fact))
        except OSError:
            pass
        self.close()
        self._server.forget(self)
        self._socket.close()


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
