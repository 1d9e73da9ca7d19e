"""Events that the disk refused: kept in memory until the journal takes them, and counted where a count survives.

Law of this file: such an event has a number in an epoch of its own, drawn for this start. The hub may get it from
memory under that number; when the journal takes it later it stands in `was`, so the hub counts it once. What the hub
holds of that epoch never makes the journal forget anything.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.access.event import FIRST_PREV, MEMORY_EPOCH, Event, Was, encode_event
from gateway.journal.chain import link_of
from gateway.journal.notes import Note

log = logging.getLogger(__name__)

MAX_EVENTS = 5000
PLACE = "unsaved.tgj"
_WHY_BYTES = 200
_RUNTIME_FOLDERS = ("/run/tapgate", "/dev/shm")  # noqa: S108  # opened without following links, owner checked


@dataclass(frozen=True, slots=True)
class Tally:
    """How many events were neither kept nor heard by the hub.

    Attributes:
        since: when the first of them happened, `until` the last; as events carry time.
        why: what the disk said, one sentence.
    """

    count: int = 0
    since: str = ""
    until: str = ""
    why: str = ""

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        if not other.count or not self.count:
            return self if self.count else other
        since, until = min(self.since, other.since), max(self.until, other.until)
        return Tally(self.count + other.count, since, until, other.why or self.why)


class Unsaved:
    """What is kept in memory; may be used from any thread.

    Args:
        runtime: a folder that outlives this process though not the machine, None where there is none.
        in_folder: whether the journal's own folder may hold the count too.

    Attributes:
        epoch: of the numbers that these events have until the journal takes them.
        before: what earlier starts could not keep and nobody has recorded yet.
    """

    def __init__(self, directory: Path, runtime: Path | None, *, in_folder: bool = True) -> None:
        self.epoch = MEMORY_EPOCH + secrets.token_hex(4)
        name = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:8]
        self._places = [Note(directory / PLACE)] if in_folder else []
        if runtime is not None:
            self._places.append(Note(runtime / f"tapgate-unsaved-{name}.tgj"))
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._events: deque[tuple[int, bytes, Event]] = deque()
        self._last, self._link = 0, FIRST_PREV
        self._delivered: tuple[int, tuple[tuple[int, int], ...]] = (0, ())
        self._starts: list[str] = []
        self._lost = Tally()
        self._reported = 0
        self._span = Tally()
        self.before = self._read_before()
        self._written = self.before

    def prepare(self) -> None:
        """Make the places of the count while the disk still takes a new file."""
        for place in self._places:
            try:
                place.prepare()
            except OSError as error:
                log.debug("%s cannot be made: %s", place.path, error)

    def _read_before(self) -> Tally:
        notes = [_read_tally(values) for place in self._places if (values := place.read()) is not None]
        # A later start counts on from what it found; what it counted in is not counted again.
        covered = {start for note in notes for start in note.covers}
        found: dict[str, Tally] = {}
        for note in notes:
            if note.start not in covered and note.tally.count > found.get(note.start, Tally()).count:
                found[note.start] = note.tally
        self._starts = [note.start for note in notes]
        total = Tally()
        for tally in found.values():
            total = total.plus(tally)
        return total

    @property
    def held(self) -> int:
        """Return how many events wait in memory for the journal."""
        return len(self._events)

    @property
    def lost(self) -> Tally:
        """Return what of this start was neither kept nor held; what `report_done` covers is in it."""
        return self._lost

    def take(self, event: Event, why: str) -> bool:
        """Hold an event that the disk refused; False when it is lost: no room, or a sale, whose till repeats it."""
        with self._lock:
            one = Tally(1, event.at, event.at, why)
            if event.kind == "sale" or not self._make_room():
                self._lost = self._lost.plus(one)
                return False
            event.epoch, event.seq, event.prev = self.epoch, self._last + 1, self._link
            raw = encode_event(event)
            self._last, self._link = event.seq, link_of(raw).hex()
            self._events.append((event.seq, raw, event))
            self._span = self._span.plus(one)
            return True

    def _make_room(self) -> bool:
        if len(self._events) < MAX_EVENTS:
            return True
        if self._is_delivered(self._events[0][0]):
            # The hub has it; the register here will lack it.
            self._events.popleft()
            return True
        return False

    def lose(self, event: Event, why: str) -> None:
        """Count an event that was not even tried."""
        with self._lock:
            self._lost = self._lost.plus(Tally(1, event.at, event.at, why))

    def oldest(self, limit: int) -> list[Event]:
        """Return the oldest events, each with its number in `was`, for the journal; report them with `kept`."""
        with self._lock:
            found = [self._events[place] for place in range(min(limit, len(self._events)))]
        for seq, _, event in found:
            event.was = Was(self.epoch, seq)
        return [event for _, _, event in found]

    def kept(self, event: Event) -> None:
        """Let go of one that the journal has made durable."""
        assert isinstance(event.was, Was)
        with self._lock:
            while self._events and self._events[0][0] <= event.was.seq:
                self._events.popleft()
            if not self._events:
                self._span = Tally()

    def undelivered(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return number and bytes of events above a number that the hub does not hold, oldest first, without a hole."""
        with self._lock:
            found: list[tuple[int, bytes]] = []
            for seq, raw, _ in self._events:
                if seq <= after or self._is_delivered(seq):
                    continue
                found.append((seq, raw))
                if len(found) == limit:
                    break
            return found

    def delivered(self, upto: int, have: list[tuple[int, int]]) -> None:
        """Take in what the hub holds of this epoch; it is safe there, and still waits for the journal here."""
        with self._lock:
            if upto <= self._last:
                self._delivered = max(upto, self._delivered[0]), tuple(have)

    def _is_delivered(self, seq: int) -> bool:
        upto, have = self._delivered
        return seq <= upto or any(first <= seq <= last for first, last in have)

    @property
    def open_tally(self) -> Tally:
        """Return what would be lost if the process ended now, and what no record tells of yet."""
        with self._lock:
            waiting = sum(not self._is_delivered(seq) for seq, _, _ in self._events)
            unreported = self._lost.count - self._reported
            lost, span = self._lost, self._span
        total = self.before
        if unreported:
            total = total.plus(Tally(unreported, lost.since, lost.until, lost.why))
        if waiting:
            total = total.plus(Tally(waiting, span.since, span.until, span.why))
        return total

    def report_done(self, count: int) -> None:
        """Note that the journal itself tells of so many lost ones of this start."""
        self._reported = count

    def told_before(self) -> None:
        """Note that the journal itself tells of what earlier starts lost."""
        self.before = Tally()

    def write(self) -> None:
        """Make the count durable in the first place that takes it; nothing to do while it is the same."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        tally = self.open_tally
        if tally == self._written:
            return
        values = {"start": self.epoch, "covers": self._starts, "count": tally.count}
        values |= {"since": tally.since[:30], "until": tally.until[:30]}
        values["why"] = tally.why.replace('"', "'").encode()[:_WHY_BYTES].decode(errors="ignore")
        for number, place in enumerate(self._places):
            try:
                place.write(values, sync=True)
            except OSError as error:
                log.debug("the count of unsaved events does not go to %s: %s", place.path, error)
                continue
            self._written = tally
            for other in self._places[number + 1 :]:
                _empty(other, self.epoch)
            return
        log.error("%s events are not saved, and no place keeps that number", tally.count)
        self._written = tally

    def close(self) -> None:
        for place in self._places:
            place.close()


def runtime_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return a folder in memory that outlives this process: the unit's own, or one that only this user can write."""
    named = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0] or environment.get("XDG_RUNTIME_DIR", "")
    for name in (named, *_RUNTIME_FOLDERS):
        if name and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    return None


def _empty(place: Note, start: str) -> None:
    # A folder of another user refuses the question already, and costs that place only.
    try:
        if place.path.exists():
            place.write({"start": start, "count": 0}, sync=False)
    except OSError as error:
        log.debug("%s keeps an old count: %s", place.path, error)


@dataclass(frozen=True, slots=True)
class _Counted:
    """One note as it was found; `covers` names the starts whose counts are in it."""

    start: str = ""
    covers: tuple[str, ...] = ()
    tally: Tally = Tally()


def _read_tally(values: dict[str, Any]) -> _Counted:
    count, covers = values.get("count"), values.get("covers", [])
    words = [values.get(name, "") for name in ("start", "since", "until", "why")]
    if type(count) is not int or not 0 <= count < 1 << 53 or not all(isinstance(word, str) for word in words):
        return _Counted()
    start, since, until, why = words
    starts = tuple(item for item in covers if isinstance(item, str)) if isinstance(covers, list) else ()
    return _Counted(start, starts, Tally(count, since, until, why))
