"""The one thread that writes: group commit without a timer, and what to do when the disk says no.

What arrived while one sync ran goes with the next. Law of this file: nothing is told as kept before its sync returned;
after a failed write or sync the descriptor is given up and what was not synced is written again into a new segment,
once; a segment is unlinked only after the watermark that allows it was synced.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access.event import Event, decode_event, encode_event
from gateway.errors import JournalFull, JournalMisuse, JournalWriteFailed
from gateway.journal.catalog import Catalog, Damage, Entry
from gateway.journal.chain import Chain, link_of, trusted_ms
from gateway.journal.frames import HEAD_BYTES, Frame, FrameKind, pack_frame
from gateway.journal.jobs import Acknowledge, Append, Barrier, Change, Job, Stop, Ticket
from gateway.journal.recovery import MAX_GROUP, State
from gateway.journal.segments import (
    DATA_START,
    SegmentHeader,
    SegmentIndex,
    SegmentWriter,
    allocate_spare,
    as_journal_error,
    drop_spare,
    segment_path,
    spare_exists,
    start_segment,
    sync_directory,
)

log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 16 * 1024
# The end of a segment is kept for watermarks: without them a full journal could never be emptied.
RESERVE_BYTES = 4096
_RETRY_SECONDS = 0.5
_LEAP_GROUP = 64
_CLOCK_IS_SET = 1_704_067_200.0  # 2024-01-01; a file dated before that was closed by a clock that had not been set.
_DAY_SECONDS = 86400.0

Subscriber = Callable[[int, bytes, Event], None]


@dataclass(slots=True)
class _Record:
    kind: FrameKind
    number: int
    payload: bytes
    job: Append | Change | None = None


@dataclass(slots=True)
class Vitals:
    """How the writer does; read by other threads at any time."""

    alarm: str | None = None
    space_alarm: str | None = None
    refused: int = 0
    abandoned: int = 0
    sync_ms: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    sync_ms_max: float = 0.0


class Writer:
    """Owns the growing segment; everything but `jobs`, `vitals`, `head` and `acked` belongs to its thread."""

    def __init__(
        self, directory: Path, catalog: Catalog, state: State, *, segment_bytes: int, quota_bytes: int, keep_days: float
    ) -> None:
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.vitals = Vitals()
        self.head = state.head
        self.acked = state.acked
        self.documents = state.documents
        self.wall_ms = state.wall_ms
        self.subscribers: list[Subscriber] = []
        self._directory = directory
        self._catalog = catalog
        self._state = state
        self._segment_bytes = segment_bytes
        self.quota_bytes = quota_bytes
        self._keep_seconds = keep_days * _DAY_SECONDS
        self._link = state.link
        self._durable_acked = state.acked
        self._first_of_boot = state.head + 1
        self._segment: SegmentWriter | None = None
        self._index: SegmentIndex | None = None
        self._last_number = max((entry.number for entry in catalog.entries), default=0)
        self._last_number = max([self._last_number, *catalog.unreadable])
        self._retry_at = 0.0
        self._last_error: JournalFull | JournalWriteFailed | None = None
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        """Begin the segment of this boot and start the thread; a full disk is an alarm, not an error."""
        try:
            self._roll()
        except (JournalFull, JournalWriteFailed) as error:
            log.warning("the journal cannot be written: %s", error)
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    # The thread.

    def _run(self) -> None:
        stop = False
        while not stop:
            jobs: list[Job] = [self.jobs.get()]
            try:
                while len(jobs) < MAX_GROUP:
                    jobs.append(self.jobs.get_nowait())
            except queue.Empty:
                pass
            stop = any(isinstance(job, Stop) for job in jobs)
            try:
                self._commit(jobs)
            except Exception:
                log.exception("the journal writer met a fault of its own; the records of this group are refused")
                self._refuse_open(jobs, "The journal met a fault of its own; the log names it.")
        self._finish()
        late: list[Job] = []
        while not self.jobs.empty():
            late.append(self.jobs.get())
        self._refuse_open(late, "The journal was closed before this event came.")

    def _refuse_open(self, jobs: list[Job], why: str) -> None:
        error = JournalWriteFailed(why)
        for job in jobs:
            if isinstance(job, Append | Change | Barrier) and not job.ticket.done:
                job.ticket.fail(error)

    def _commit(self, jobs: list[Job]) -> None:
        has_watermark = self._take_watermarks(jobs)
        group: list[_Record] = []
        size = 0
        for job in jobs:
            if not isinstance(job, Append | Change):
                continue
            record = self._record(job, group)
            if record and not self._fits(size + HEAD_BYTES + len(record.payload)):
                self._flush(group)
                group, size = [], 0
                try:
                    if not self._fits(HEAD_BYTES + len(record.payload)):
                        self._roll()
                except (JournalFull, JournalWriteFailed) as error:
                    self._refuse(job, error)
                    continue
                # Numbers and chain may have changed when the flush failed.
                record = self._record(job, group)
            if record:
                group.append(record)
                size += HEAD_BYTES + len(record.payload)
        self._flush(group)
        if has_watermark:
            self._forget(now=time.time())
        self._prepare_spare()
        for job in jobs:
            if isinstance(job, Barrier):
                job.ticket.resolve(self.head)

    def _take_watermarks(self, jobs: list[Job]) -> bool:
        marks = [job.upto for job in jobs if isinstance(job, Acknowledge)]
        for upto in marks:
            if upto > self.head:
                self._leap(upto)
            if upto > self.acked:
                self.acked = min(upto, self.head)
                # There may be room again now; no need to wait with the next try.
                self._last_error = None
        return bool(marks)

    def _fits(self, size: int) -> bool:
        return self._segment is not None and size + HEAD_BYTES + RESERVE_BYTES <= self._segment.room

    def _record(self, job: Append | Change, group: list[_Record]) -> _Record | None:
        if isinstance(job, Change):
            return _Record(FrameKind.TABLE, self.head, job.payload, job)
        event = job.event
        before = next((record for record in reversed(group) if record.kind is FrameKind.EVENT), None)
        event.epoch = self._state.epoch.hex()
        event.seq = before.number + 1 if before else self.head + 1
        event.prev = (link_of(before.payload) if before else self._link).hex()
        try:
            raw = encode_event(event)
        except (TypeError, ValueError) as error:
            job.ticket.fail(JournalMisuse(f"An event of kind {event.kind!r} cannot be written as JSON: {error}."))
            return None
        if len(raw) > MAX_EVENT_BYTES:
            job.ticket.fail(JournalMisuse(f"An event may have {MAX_EVENT_BYTES} bytes; this one has {len(raw)}."))
            return None
        return _Record(FrameKind.EVENT, event.seq, raw, job)

    def _leap(self, upto: int) -> None:
        """Go on behind what the hub already has: this folder is older than the gateway's last run.

        The card was restored from a copy, or lost its newest sectors. Numbers that the hub knows are never given
        again; events of this boot that got such numbers are written again under new ones.
        """
        first_lost, head = self._first_of_boot, self.head
        again = [decode_event(raw) for _, raw in self._catalog.events(first_lost, head) if raw is not None]
        text = f"the hub has events up to {upto} and this journal only up to {first_lost - 1}: its card is older"
        log.warning("journal: %s; %d events of this boot get new numbers", text, len(again))
        number = self._last_number
        before = self.acked, self._link
        self._link = Chain(self._catalog).link_after(upto)
        self.head = self.acked = upto
        try:
            self._roll()
        except (JournalFull, JournalWriteFailed):
            self.head = head
            self.acked, self._link = before
            return
        self._first_of_boot = upto + 1
        self._state.damage.append(Damage(number, 0, 0, ((first_lost, upto),), torn=False, what=text))
        self._flush_all([Append(event, Ticket()) for event in again])

    def _flush_all(self, jobs: list[Append]) -> None:
        group: list[_Record] = []
        for job in jobs:
            if (record := self._record(job, group)) is not None:
                group.append(record)
            if len(group) == _LEAP_GROUP:
                self._flush(group)
                group = []
        self._flush(group)

    def _refuse(self, job: Append | Change, error: JournalFull | JournalWriteFailed) -> None:
        self.vitals.refused += 1
        job.ticket.fail(error)

    def _flush(self, group: list[_Record]) -> None:
        if not group:
            return
        try:
            offset = self._write(group)
        except OSError as error:
            log.warning("the disk refused records of segment %s (%s); trying a new one", self._last_number, error)
            self._abandon()
            try:
                self._roll()
                offset = self._write(group)
            except OSError as again:
                self._abandon()
                self._fail(group, self._blocked(as_journal_error(again)))
                return
            except (JournalFull, JournalWriteFailed) as refused:
                self._fail(group, refused)
                return
        self.vitals.alarm = None
        self._publish(group, offset)

    def _write(self, group: list[_Record]) -> int:
        # Gives where the first frame of the group lies. The watermark rides along, so it costs no sync of its own.
        segment = self._segment
        assert segment is not None
        seed = segment.header.seed
        frames = [pack_frame(seed, record.kind, record.number, record.payload) for record in group]
        if self.acked > self._durable_acked:
            frames.append(pack_frame(seed, FrameKind.WATERMARK, self.acked, b""))
        offset, acked = segment.end, self.acked
        started = time.perf_counter()
        segment.write(b"".join(frames))
        segment.sync()
        took_ms = (time.perf_counter() - started) * 1000
        self.vitals.sync_ms.append(took_ms)
        self.vitals.sync_ms_max = max(self.vitals.sync_ms_max, took_ms)
        self._durable_acked = max(self._durable_acked, acked)
        return offset

    def _publish(self, group: list[_Record], offset: int) -> None:
        index, segment = self._index, self._segment
        assert index is not None
        assert segment is not None
        events: list[_Record] = []
        for record in group:
            end = offset + HEAD_BYTES + len(record.payload)
            if record.kind is FrameKind.EVENT:
                index.add(Frame(record.kind, record.number, offset, end))
                events.append(record)
            else:
                self.documents.apply(record.payload, segment.header.number)
            offset = end
        index.end = segment.end
        if events:
            self._link = link_of(events[-1].payload)
            self.head = events[-1].number
        for record in group:
            if record.job:
                record.job.ticket.resolve(record.number)
        for record in events:
            if isinstance(record.job, Append):
                self.wall_ms = max(self.wall_ms, trusted_ms(record.job.event))
                self._tell(record.number, record.payload, record.job.event)

    def _tell(self, seq: int, raw: bytes, event: Event) -> None:
        for subscriber in self.subscribers:
            try:
                subscriber(seq, raw, event)
            except Exception:
                log.exception("a subscriber of the journal raised; it is called again with the next event")

    def _fail(self, group: list[_Record], error: JournalFull | JournalWriteFailed) -> None:
        for record in group:
            if record.job:
                self._refuse(record.job, error)

    def _abandon(self) -> None:
        if self._segment:
            self._segment.abandon()
            self._segment = None
            self.vitals.abandoned += 1

    # Segments.

    def _roll(self, *, size: int | None = None) -> None:
        """Go on in a new segment.

        Args:
            size: for the small segment that takes a watermark and nothing else; it may exceed the quota.

        Raises:
            JournalFull: disk or quota is used up; the old segment stays and its reserve still takes watermarks.
            JournalWriteFailed: the disk refused.
        """
        if size is None:
            if self._last_error and time.monotonic() < self._retry_at:
                raise self._last_error
            self._last_error = None
        try:
            if size is not None:
                allocate_spare(self._directory, size)
            elif not spare_exists(self._directory):
                self._allocate()
            size = size or self._segment_bytes
            header = SegmentHeader(
                number=self._last_number + 1,
                boot=self._state.boot,
                salt=self._state.salt,
                epoch=self._state.epoch,
                first_seq=self.head + 1,
                acked=self.acked,
                prev=self._link,
                wall_ms=self.wall_ms,
                tables_from=self.documents.first_segment,
                gateway=self._state.gateway,
            )
            segment = start_segment(self._directory, header, size)
        except OSError as error:
            raise self._blocked(as_journal_error(error)) from error
        if self._segment:
            with contextlib.suppress(OSError):
                self._segment.close(trim=False)
        self._segment = segment
        self._last_number = header.number
        self._durable_acked = self.acked
        self._index = SegmentIndex(header)
        self._catalog.set_live(Entry(header, size, time.time()), self._index)

    def _blocked(self, error: JournalFull | JournalWriteFailed) -> JournalFull | JournalWriteFailed:
        self._last_error = error
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self.vitals.alarm = str(error)
        return error

    def _allocate(self) -> None:
        if self.used_bytes() + self._segment_bytes > self.quota_bytes:
            self._forget(now=None)
        if self.used_bytes() + self._segment_bytes > self.quota_bytes:
            raise self._blocked(
                JournalFull(
                    f"The journal's quota of {self.quota_bytes >> 20} MiB is used up by events that the hub does not "
                    "have yet; bring the hub back or raise journal.quota_mib."
                )
            )
        try:
            allocate_spare(self._directory, self._segment_bytes)
        except OSError as error:
            # Kept for replay only: what the hub has is given up before anything new is refused.
            if not self._forget(now=None):
                raise
            log.warning("acknowledged segments were removed early, the disk is full (%s)", error)
            allocate_spare(self._directory, self._segment_bytes)

    def _prepare_spare(self) -> None:
        # In the second half of a segment the next one is reserved, so a full disk is known before it hurts.
        segment = self._segment
        if (segment and segment.room > segment.size // 2) or spare_exists(self._directory):
            self.vitals.alarm = self.vitals.space_alarm = None
            return
        if time.monotonic() < self._retry_at:
            return
        try:
            self._allocate()
            self.vitals.alarm = self.vitals.space_alarm = None
        except OSError as error:
            self._blocked(as_journal_error(error))
        except JournalFull as error:
            log.warning("%s", error)
        if self.vitals.alarm:
            self.vitals.space_alarm = f"The journal is in its last segment. {self.vitals.alarm}"
            if self._fits(MAX_EVENT_BYTES):
                self.vitals.alarm = None

    def used_bytes(self) -> int:
        """Give what the segments take of the quota, the reserved one included."""
        total = sum(entry.size for entry in self._catalog.entries)
        return total + (self._segment_bytes if spare_exists(self._directory) else 0)

    def _forget(self, *, now: float | None) -> bool:
        """Unlink what lies behind the watermark and is older than the retention; with `now` None whatever its age."""
        victims: list[int] = []
        entries = self._catalog.entries
        for place, entry in enumerate(entries[:-1]):
            end_seq = entries[place + 1].header.first_seq
            if end_seq - 1 > self.acked or (now is not None and not self._aged(entry, now)):
                break
            victims.append(entry.number)
        if not victims:
            return False
        try:
            if self._segment is None:
                # Full at the start: without a place for the watermark nothing could ever be freed.
                self._roll(size=DATA_START + RESERVE_BYTES)
            if not self._make_needless(victims[-1]):
                return False
        except (JournalFull, JournalWriteFailed):
            return False
        except OSError as error:
            log.warning("the watermark could not be kept (%s); nothing is removed", error)
            self._abandon()
            return False
        for number in victims:
            segment_path(self._directory, number).unlink(missing_ok=True)
            self._catalog.forget(number)
        sync_directory(self._directory)
        self._last_error = None
        return True

    def _aged(self, entry: Entry, now: float) -> bool:
        if entry.closed_at < _CLOCK_IS_SET <= now:
            # Closed before the clock was right: its age counts from now.
            entry.closed_at = now
        return now - entry.closed_at >= self._keep_seconds

    def _make_needless(self, up_to: int) -> bool:
        # False when what must be written again does not fit; the next segment will have the room.
        segment = self._segment
        assert segment is not None
        seed = segment.header.seed
        frames = [pack_frame(seed, FrameKind.TABLE, self.head, part) for part in self.documents.snapshot(up_to)]
        if self.acked > self._durable_acked:
            frames.append(pack_frame(seed, FrameKind.WATERMARK, self.acked, b""))
        data = b"".join(frames)
        if not data:
            return True
        if len(data) > segment.room:
            return False
        segment.write(data)
        segment.sync()
        self._durable_acked = self.acked
        self.documents.moved(up_to, segment.header.number)
        if self._index:
            self._index.end = segment.end
        return True

    def _finish(self) -> None:
        segment = self._segment
        if segment is None:
            drop_spare(self._directory)
            return
        try:
            if self.acked > self._durable_acked and segment.room >= HEAD_BYTES:
                segment.write(pack_frame(segment.header.seed, FrameKind.WATERMARK, self.acked, b""))
                segment.sync()
            segment.close(trim=True)
        except OSError as error:
            log.warning("the journal's last segment could not be closed in order (%s); recovery will do it", error)
        drop_spare(self._directory)
        self._segment = None
