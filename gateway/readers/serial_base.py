"""What readers on serial lines have in common, whether they send unprompted or must be polled.

Law of this file: bytes that are no frame are counted and dropped; a partial frame is dropped when the line falls
silent; whatever arrives after its owner has stalled for a second is dropped, since its age is unknown. A look and an
opening have a time in which they end, whatever the far end does: says nothing, or never stops.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from gateway.errors import BadMessage, ReaderOffline, RetryError
from gateway.points.actions import Signal
from gateway.protocols.shapes import Shape
from gateway.readers.base import CardGone, CardRead, CardRefused, ReaderEvent, Vitals
from gateway.readers.judge import judge_uid
from gateway.readers.presence import Presence
from gateway.transports.serial import SerialTransport

WAIT_SECONDS = 0.05
STALE_NS = 1_000_000_000
LOOK_NS = 90_000_000  # of the 100 ms that a poll may take; the rest is for one slow read
_OPEN_NS = 1_900_000_000
# Reads that empty a line. Noise that continues is handled by the next look, which ends in time.
_DRAIN_READS = 4
BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_PARITIES = {"none": "N", "even": "E", "odd": "O"}
_SHOWN_AT_MOST = 8
SILENCES = 3  # in a row, and a reader is taken as gone
_DROPS_KEPT = 32
_LOST, _SHARED = "bytes were lost", "another program reads the port"
_PROPOSALS = {
    "no line end": "ends_by_silence = true, when its number has no CR or LF after it within idle_gap_ms",
    "bytes outside of a frame": 'driver = "serial-line", when it prints lines of text',
    _SHARED: "end the other program, or keep it off the port by the shipped udev rules",
}

_Event = TypeVar("_Event")
_Show = TypeVar("_Show")
_Frame_co = TypeVar("_Frame_co", covariant=True)


def option_problems(options: Any, bounds: dict[str, tuple[float, float]]) -> list[str]:
    """Check baud and ranges of an Options object; returns `key: message` lines."""
    problems = []
    if options.baud not in BAUDS:
        problems.append(f"baud: must be one of {', '.join(map(str, BAUDS))}")
    if getattr(options, "parity", "none") not in _PARITIES:
        problems.append(f"parity: must be one of {', '.join(_PARITIES)}")
    for key, allowed in (("data_bits", (7, 8)), ("stop_bits", (1, 2))):
        if getattr(options, key, allowed[0]) not in allowed:
            problems.append(f"{key}: must be {allowed[0]} or {allowed[1]}")
    for key, (low, high) in bounds.items():
        if not low <= getattr(options, key) <= high:
            problems.append(f"{key}: must be from {low:g} to {high:g}")
    return problems


def framing_of(options: Any) -> str:
    """Return what transports.serial calls data bits, parity and stop bits of Options with these settings."""
    return f"{options.data_bits}{_PARITIES[options.parity]}{options.stop_bits}"


class SerialReader:
    """The line, the vital signs and the life of a reader on it."""

    def __init__(self, name: str, transport: SerialTransport, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = 0.0
        self._transport = transport
        self._now_ns = now_ns
        self._drops: deque[str] = deque(maxlen=_DROPS_KEPT)

    def open(self) -> None:
        again = self.vitals.state != "starting"
        try:
            self._transport.open()
            self._begin()
        except ReaderOffline as error:
            self._transport.close()
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        self.vitals.reopens += again
        self.vitals.state = "ready"

    def _begin(self) -> None:
        """Bring the opened reader to its polling state; sets vitals.detail."""
        raise NotImplementedError

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        try:
            return self._cycle()
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise

    def _cycle(self) -> list[ReaderEvent]:
        raise NotImplementedError

    def _count(self, name: str) -> None:
        self.vitals.counters[name] = self.vitals.counters.get(name, 0) + 1

    def _drop(self, why: str, length: int, shape: Shape = Shape(), cause: str = "") -> None:  # noqa: B008  # frozen
        """Count a frame that was no number.

        Args:
            why: the name of its counter.
            cause: what is known beyond that, for the sentence only.
        """
        vitals = self.vitals
        vitals.errors += 1
        vitals.dropped += 1
        kind = f" ({shape.kind})" if shape.kind else ""
        what = f"{length} bytes{kind}" if length else "a number"
        vitals.detail = f"Dropped {what}: {cause or why}."
        vitals.proposal = shape.proposal or _PROPOSALS.get(why, "")
        self._count(why)
        self._drops.append(vitals.detail + (f" Try: {vitals.proposal}." if vitals.proposal else ""))

    def take_drops(self) -> list[str]:
        """Return a sentence for each frame that was dropped since the last call, the newest of many."""
        drops = list(self._drops)
        self._drops.clear()
        return drops

    def _refuse(self, event: CardRefused) -> None:
        """Count a card that was read whole and cannot be used in this form; that is no damage."""
        self.vitals.refused += 1
        self.vitals.detail = event.detail
        self.vitals.proposal = event.detail
        self._count("other form")

    def signal(self, signal: Signal) -> bool:
        del signal
        return False

    def close(self) -> None:
        self._transport.close()


class TalkParser(Protocol[_Frame_co]):
    """A parser of protocols for readers that speak on their own."""

    @property
    def waiting(self) -> bool: ...

    def spoil(self, why: str) -> None: ...

    def undate(self) -> None: ...

    def feed(self, data: bytes) -> Sequence[_Frame_co]: ...

    def idle(self) -> Sequence[_Frame_co]: ...

    def reset(self) -> None: ...


class TalkingReader(SerialReader, Generic[_Event]):
    """A reader that sends something for each card without being asked."""

    def __init__(
        self,
        name: str,
        transport: SerialTransport,
        parser: TalkParser[_Event],
        idle_gap_ms: float,
        repeat_ms: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(name, transport, now_ns)
        self._parser = parser
        self._idle_gap_ns = int(idle_gap_ms * 1e6)
        self._repeat_ns = int(repeat_ms * 1e6)
        self._quiet_ns = 0
        self._last_poll_ns = 0
        self._losses = 0
        self._is_lossy = False
        self._last: tuple[object, int] = (None, 0)

    def _begin(self) -> None:
        self._parser.reset()
        self._quiet_ns = 0
        self._losses = self._count_losses()
        self._last_poll_ns = self._now_ns()
        self.vitals.detail = "listening"

    def _cycle(self) -> list[ReaderEvent]:
        before_ns = self._now_ns()
        unheard_ns = before_ns - self._last_poll_ns
        wait = min(WAIT_SECONDS, self._idle_gap_ns / 1e9) if self._parser.waiting else WAIT_SECONDS
        data = self._transport.read(wait)
        now_ns = self._last_poll_ns = self._now_ns()
        if unheard_ns > STALE_NS and data:
            self._drop_stale(data)
            return []
        # Only a silence that was listened to ends a line: bytes may have come while the owner was busy.
        self._quiet_ns += now_ns - before_ns
        frames: list[_Event] = []
        if self._quiet_ns > self._idle_gap_ns:
            frames += self._parser.idle()
        losses = self._count_losses()
        self._is_lossy, self._losses = losses != self._losses, losses
        if self._is_lossy:
            self._parser.spoil(_LOST)
        if data:
            self._quiet_ns = 0
            if unheard_ns > self._idle_gap_ns:
                self._parser.undate()
                if self._parser.waiting:
                    self._parser.spoil("the gateway was busy")
            frames += self._parser.feed(data)
            if self._is_lossy and self._parser.waiting:
                self._parser.spoil(_LOST)
        events = [event for frame in frames for event in self._sift(frame, now_ns)]
        self._watch_port()
        return events

    def _drop_stale(self, data: bytes) -> None:
        # A late tap could open a door or charge the wrong child. Whatever follows without an end between is part of it.
        self._parser.reset()
        self._parser.feed(data)
        if self._parser.waiting:
            self._parser.spoil("stale")
        self._quiet_ns = 0
        self.vitals.detail = "Dropped data that arrived while the gateway was busy for more than a second."
        self._count("stale")

    def _count_losses(self) -> int:
        """Return how often bytes of the port are known to have been lost; transports in memory lose none."""
        return int(getattr(self._transport, "losses", 0))

    def _sift(self, frame: _Event, now_ns: int) -> Iterable[ReaderEvent]:
        """Judge a frame, unless parts of it may have gone elsewhere."""
        why = _LOST if self._is_lossy else _SHARED if getattr(self._transport, "intruder", "") else ""
        if not why or self._is_dropped(frame):
            return self._judge(frame, now_ns)
        self._drop(why, 0)
        return ()

    def _is_dropped(self, frame: _Event) -> bool:
        return hasattr(frame, "why")

    def _watch_port(self) -> None:
        intruder = getattr(self._transport, "intruder", "")
        if intruder:
            if self.vitals.state == "ready":
                self._count("port shared")
            self.vitals.state, self.vitals.detail = "degraded", intruder
        elif not intruder and self.vitals.state == "degraded":
            self.vitals.state, self.vitals.detail = "ready", "listening; the other program has left the port"

    def _judge(self, frame: _Event, now_ns: int) -> Iterable[ReaderEvent]:
        raise NotImplementedError

    def _is_repeat(self, number: object, now_ns: int) -> bool:
        """Return whether the reader only repeats itself while a card rests; each repeat restarts the time."""
        last, last_ns = self._last
        self._last = (number, now_ns)
        repeat = number == last and now_ns - last_ns < self._repeat_ns
        if not repeat:
            self.vitals.presentations += 1
            self.vitals.last_read_ns = now_ns
        return repeat


class NoAnswer(RetryError):
    """The reader did not answer one question in time."""


class AskedReader(SerialReader, Generic[_Show]):
    """A reader that is polled for cards; presence is a level, as with our own antenna.

    A look and a signal take turns: together they would not fit into one poll, and a queue of beeps must not keep the
    reader from seeing the next card.

    Args:
        silences: how many questions in a row may stay unanswered before the reader counts as gone.

    Attributes:
        signals: the requests of each signal, one a poll; empty for a reader with neither LED nor buzzer.
    """

    signals: Mapping[Signal, tuple[_Show, ...]] = {}

    def __init__(
        self,
        name: str,
        transport: SerialTransport,
        rearm_ms: float,
        poll_ms: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
        silences: int | None = None,
    ) -> None:
        super().__init__(name, transport, now_ns)
        self.pause_seconds = poll_ms / 1000
        self._presence = Presence(rearm_ms)
        self._silences = SILENCES if silences is None else silences
        self._silent = 0
        self._ends_ns = 0
        self._show: deque[_Show] = deque(maxlen=_SHOWN_AT_MOST)
        self._has_shown = False

    def _begin(self) -> None:
        self._silent = 0
        self._ends_ns = self._now_ns() + _OPEN_NS
        try:
            self._start()
        except NoAnswer:
            raise ReaderOffline(
                f"The reader on {self._transport.port} does not answer; check baud and model."
            ) from None
        except BadMessage as error:
            raise ReaderOffline(f"The reader on {self._transport.port} cannot be set up: {error}") from None

    def _start(self) -> None:
        """Wake the reader, set it up and set vitals.firmware; may raise NoAnswer."""
        raise NotImplementedError

    def _look(self) -> tuple[bytes, str] | None:
        """Ask once for a card: its UID and type; may raise NoAnswer."""
        raise NotImplementedError

    def _judge_card(self, number: bytes, kind: str, now_ns: int) -> CardRead | CardRefused:
        """Judge what a look has found; a UID of ISO 14443 type A unless the driver knows of other kinds."""
        return judge_uid(self.name, number, kind, now_ns)

    def _perform(self, show: _Show) -> None:
        """Send one request of a signal; may raise NoAnswer."""
        raise NotImplementedError

    def signal(self, signal: Signal) -> bool:
        # Sent with the next polls: nobody waits here for a serial line.
        self._show.extend(self.signals.get(signal, ()))
        return bool(self.signals)

    def _cycle(self) -> list[ReaderEvent]:
        self._ends_ns = self._now_ns() + LOOK_NS
        self._has_shown = bool(self._show) and not self._has_shown
        try:
            if self._has_shown:
                self._perform(self._show.popleft())
                return []
            found = self._look()
        except NoAnswer:
            self._silent += 1
            self.vitals.retries += 1
            if self._silent >= self._silences:
                stopped = f"The reader on {self._transport.port} has stopped answering."
                raise ReaderOffline(getattr(self._transport, "intruder", "") or stopped) from None
            return []
        self._silent = 0
        now_ns = self._now_ns()
        events: list[ReaderEvent] = []
        # Phones draw a new number whenever the field flickers; together they are one presence.
        key = found and (b"\x08" if len(found[0]) == 4 and found[0][0] == 0x08 else found[0])
        if found and key and self._presence.seen(key, now_ns):
            self.vitals.presentations += 1
            self.vitals.last_read_ns = now_ns
            events.append(self._judge_card(*found, now_ns))
        events += [
            CardGone(self.name, now_ns)
            for card in self._presence.cards
            if card != key and self._presence.missed(card, now_ns)
        ]
        return events

    def _ask(self, request: bytes, accept: Callable[[bytes], _Event | None], timeout_seconds: float) -> _Event:
        """Send a request and return what `accept` makes of the bytes that come back.

        Raises:
            NoAnswer: nothing acceptable came in time; what has come is drained before the next request.
        """
        self._transport.write(request)
        losses = getattr(self._transport, "losses", 0)
        # The reader's own clock, so that a recording takes the same turns.
        end_ns = min(self._now_ns() + int(timeout_seconds * 1e9), self._ends_ns)
        while True:
            rest_ns = max(0, end_ns - self._now_ns())
            data = self._transport.read(rest_ns / 1e9)
            answer = accept(data) if data else None
            if getattr(self._transport, "losses", 0) != losses:
                self._count(_LOST)
                break
            if answer is not None:
                return answer
            if rest_ns == 0:
                break  # the last look is after the end: on a busy machine the answer is in time and its reader is not
        self._drain()
        raise NoAnswer

    def _drain(self) -> None:
        for _ in range(_DRAIN_READS):
            if not self._transport.read(0):
                return
            self._count("late bytes")
