"""The segments of one journal folder, and reading events out of them by number.

Both the writer and readers in other processes use it. Only headers are read at the start; a segment is scanned when
something in it is wanted, and 4 bytes an event stay in memory for the segments used last. A file that vanishes while
somebody reads was below the watermark: that is normal and reads as nothing.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.journal.anchor import Anchored, read_anchor
from gateway.journal.frames import HEAD_BYTES, FrameKind, frame_at, scan
from gateway.journal.segments import (
    DATA_START,
    SegmentHeader,
    SegmentIndex,
    index_segment,
    list_segments,
    parse_header,
    segment_path,
)

_INDEXES_KEPT = 64
_RUN_EVENTS = 256


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no record, and the events that are missing because of them.

    Attributes:
        offset: place in the segment file, with `end` after the last bad byte.
        missing: closed ranges of sequence numbers that cannot be read.
        torn: True for the end of a segment that was being written when the power failed: nothing acknowledged is in it.
    """

    segment: int
    offset: int
    end: int
    missing: tuple[tuple[int, int], ...]
    torn: bool
    what: str


@dataclass(slots=True)
class Entry:
    """One segment file; `header` is None-free: a damaged one is rebuilt from its neighbours and `rebuilt` is set."""

    header: SegmentHeader
    size: int
    closed_at: float
    rebuilt: bool = False

    @property
    def number(self) -> int:
        return self.header.number


class Catalog:
    """The segments of a folder in their order.

    Attributes:
        unreadable: numbers of segment files of which not even the header can be rebuilt.
        anchored: what the anchor said before the segments were read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: list[Entry] = []
        self.unreadable: list[int] = []
        self.anchored: Anchored | None = None
        self._lock = threading.Lock()
        self._indexes: OrderedDict[int, SegmentIndex] = OrderedDict()
        self._live: SegmentIndex | None = None

    def load(self) -> None:
        """Read the headers of all segments that are there now."""
        self._live = None
        # Before the segments: a writer may be at work, and its anchor must not be later than what is read here.
        self.anchored = read_anchor(self.directory)
        entries: list[Entry] = []
        broken: list[int] = []
        for number in list_segments(self.directory):
            path = segment_path(self.directory, number)
            try:
                with path.open("rb") as file:
                    header = parse_header(file.read(DATA_START), number)
                    status = os.fstat(file.fileno())
            except FileNotFoundError:
                continue
            if header is None:
                broken.append(number)
            else:
                entries.append(Entry(header, status.st_size, status.st_mtime))
        self.entries, self.unreadable = entries, broken
        for number in list(broken) if entries else ():
            self._rebuild(number)

    def _rebuild(self, number: int) -> None:
        # Salt, epoch and gateway are the same in every header of a journal; the rest follows from the neighbours.
        after = next((place for place, entry in enumerate(self.entries) if entry.number > number), len(self.entries))
        before = self.entries[after - 1] if after else None
        model = before.header if before else self.entries[after].header
        header = replace(model, number=number)
        try:
            data = segment_path(self.directory, number).read_bytes()
        except FileNotFoundError:
            return
        events = [
            item.number
            for item in scan(data, header.seed, DATA_START)
            if not hasattr(item, "last") and item.kind is FrameKind.EVENT
        ]
        first_seq = min(events, default=model.first_seq)
        if before:
            next_seq = self._scan(before, None).next_seq
            first_seq = min(first_seq, next_seq) if events and first_seq > before.header.first_seq else next_seq
        header = replace(header, first_seq=first_seq)
        self.entries.insert(after, Entry(header, len(data), 0.0, rebuilt=True))
        self.unreadable.remove(number)

    def end_seq(self, place: int) -> int | None:
        """Return the sequence number after the entry's last event, None for the newest."""
        return self.entries[place + 1].header.first_seq if place + 1 < len(self.entries) else None

    def set_live(self, entry: Entry, index: SegmentIndex) -> None:
        """Add the segment that is being written; its index grows with it."""
        with self._lock:
            self._live = index
            self.entries.append(entry)

    def forget(self, number: int) -> None:
        """Take a segment out that is about to be unlinked."""
        with self._lock:
            self.entries = [entry for entry in self.entries if entry.number != number]
            self._indexes.pop(number, None)

    def drop_vanished(self) -> None:
        """Take out the segments whose files somebody removed."""
        there = set(list_segments(self.directory))
        with self._lock:
            for entry in self.entries:
                if entry.number not in there:
                    self._indexes.pop(entry.number, None)
            self.entries = [entry for entry in self.entries if entry.number in there]

    @property
    def oldest_seq(self) -> int:
        """Return the first number that this folder may still hold."""
        with self._lock:
            return self.entries[0].header.first_seq if self.entries else 1

    def index_of(self, place: int) -> SegmentIndex:
        """Scan an entry, or take what an earlier scan found."""
        with self._lock:
            entry, end_seq = self.entries[place], self.end_seq(place)
        return self._index(entry, end_seq)

    def _index(self, entry: Entry, end_seq: int | None) -> SegmentIndex:
        with self._lock:
            if self._live is not None and self._live.header.number == entry.number:
                return self._live
            if known := self._indexes.get(entry.number):
                self._indexes.move_to_end(entry.number)
                return known
        index = self._scan(entry, end_seq)
        if end_seq is not None:
            with self._lock:
                self._indexes[entry.number] = index
                while len(self._indexes) > _INDEXES_KEPT:
                    self._indexes.popitem(last=False)
        return index

    def _scan(self, entry: Entry, end_seq: int | None) -> SegmentIndex:
        try:
            data = segment_path(self.directory, entry.number).read_bytes()
        except FileNotFoundError:
            data = b""
        return index_segment(entry.header, data, end_seq)

    def events(self, first: int, last: int) -> Iterator[tuple[int, bytes | None]]:
        """Return the stored bytes of the events from `first` to `last`, None where they cannot be read."""
        while first <= last:
            with self._lock:
                place = self._place(first)
                entry = self.entries[place] if place is not None else None
                end_seq = self.end_seq(place) if place is not None else None
                oldest = self.entries[0].header.first_seq if self.entries else last + 1
            if entry is None:
                stop = min(last, oldest - 1)
                yield from ((seq, None) for seq in range(first, stop + 1))
            else:
                stop = min(last, first + _RUN_EVENTS - 1, last if end_seq is None else end_seq - 1)
                yield from zip(range(first, stop + 1), self._run(entry, end_seq, first, stop), strict=True)
            first = stop + 1

    def _place(self, seq: int) -> int | None:
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle].header.first_seq <= seq:
                low = middle + 1
            else:
                high = middle
        return low - 1 if low else None

    def _run(self, entry: Entry, end_seq: int | None, first: int, stop: int) -> list[bytes | None]:
        index = self._index(entry, end_seq)
        base = index.header.first_seq
        offsets = index.offsets[first - base : stop - base + 1]
        raws: list[bytes | None] = [None] * (stop - first + 1)
        there = [offset for offset in offsets if offset]
        if not there:
            return raws
        low, end = min(there), _end_of(index, stop - base, max(there))
        try:
            with segment_path(self.directory, entry.number).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), end - low, low)
        except OSError:
            # Gone (below the watermark) or a bad sector: the event is named as missing, the others still go.
            return raws
        view = memoryview(data)
        seed = entry.header.seed
        for place, offset in enumerate(offsets):
            frame = frame_at(view, seed, offset - low) if offset else None
            if frame and frame.number == first + place:
                raws[place] = data[frame.offset + HEAD_BYTES : frame.end]
        return raws


def _end_of(index: SegmentIndex, place: int, highest: int) -> int:
    following: array[int] = index.offsets[place + 1 : place + 2]
    return following[0] if following and following[0] > highest else index.end


def missing_ranges(index: SegmentIndex, end_seq: int) -> tuple[tuple[int, int], ...]:
    """Return the closed ranges of numbers below `end_seq` that a segment should hold and does not."""
    ranges: list[tuple[int, int]] = []
    for seq in range(index.first_seq, end_seq):
        place = seq - index.first_seq
        if place < len(index.offsets) and index.offsets[place]:
            continue
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return tuple(ranges)
