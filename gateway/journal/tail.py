"""The growing end of the journal: its segment, the reserved next one, the quota, and unlinking at the other end.

Belongs to the writer's thread. A segment is unlinked only below the watermark that allows it was synced.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import JournalFull, JournalWriteFailed
from gateway.journal.catalog import Catalog, Entry
from gateway.journal.frames import HEAD_BYTES, FrameKind, pack_frame
from gateway.journal.recovery import State
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
_CLOCK_IS_SET = 1_704_067_200.0  # 2024-01-01; a file dated before that was closed by a clock that had not been set.


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and retention, as configured."""

    segment_bytes: int
    quota_bytes: int
    keep_seconds: float


@dataclass(slots=True)
class Vitals:
    """How the writing does; read by other threads at any time."""

    alarm: str | None = None
    space_alarm: str | None = None
    refused: int = 0
    last_refusal: str = ""
    abandoned: int = 0
    sync_ms: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    sync_ms_max: float = 0.0


class Tail:
    """The segment that grows, None after an error or while there is no room for one.

    Args:
        reclaim: called before each new segment: makes the folder again where it is gone, and tells whether it did.
    """

    def __init__(
        self,
        directory: Path,
        catalog: Catalog,
        state: State,
        limits: Limits,
        reclaim: Callable[[], bool] = lambda: False,
    ) -> None:
        self.state = state
        self.vitals = Vitals()
        self.segment: SegmentWriter | None = None
        self.index: SegmentIndex | None = None
        self.last_number = max([0, *(entry.number for entry in catalog.entries), *catalog.unreadable])
        self._directory = directory
        self._catalog = catalog
        self._limits = limits
        self._reclaim = reclaim
        self._is_folder_new = False
        self._durable_acked = state.acked
        self._retry_at = 0.0
        self._last_error: JournalFull | JournalWriteFailed | None = None

    def abandon(self) -> None:
        """Abandon the growing segment after an error; the next write needs `roll` first."""
        if self.segment:
            self.segment.abandon()
            self.segment = None
            self.vitals.abandoned += 1

    def restart(self) -> None:
        """Forget the segment that grows: the folder holds another epoch now; the next write needs `roll` first."""
        if self.segment:
            with contextlib.suppress(OSError):
                self.segment.close(trim=False)
        self.segment, self.index = None, None
        self.last_number = max([0, *(entry.number for entry in self._catalog.entries)])
        self._durable_acked = self.state.acked
        self._last_error = None

    def fits(self, size: int) -> bool:
        """Say whether records of so many bytes may be written; the reserve at the end is for watermarks."""
        return self.segment is not None and size + HEAD_BYTES + RESERVE_BYTES <= self.segment.room

    def write(self, records: list[tuple[FrameKind, int, bytes]]) -> int:
        """Write and sync frames, and return where the first one lies.

        The watermark rides along, so it costs no sync of its own.

        Raises:
            OSError: the disk refused; call `abandon`.
        """
        segment = self.segment
        assert segment is not None
        frames = [pack_frame(segment.header.seed, *record) for record in records]
        offset, acked = segment.end, self.state.acked
        if acked > self._durable_acked:
            frames.append(pack_frame(segment.header.seed, FrameKind.WATERMARK, acked, b""))
        started = time.perf_counter()
        segment.write(b"".join(frames))
        segment.sync()
        took_ms = (time.perf_counter() - started) * 1000
        self.vitals.sync_ms.append(took_ms)
        self.vitals.sync_ms_max = max(self.vitals.sync_ms_max, took_ms)
        self._durable_acked = max(self._durable_acked, acked)
        return offset

    def roll(self, *, size: int | None = None) -> None:
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
            self._is_folder_new |= self._reclaim()
            if size is not None:
                allocate_spare(self._directory, size)
            elif not spare_exists(self._directory):
                self._allocate()
            size = size or self._limits.segment_bytes
            header = SegmentHeader(
                number=self.last_number + 1,
                boot=self.state.boot,
                salt=self.state.salt,
                epoch=self.state.epoch,
                first_seq=self.state.head + 1,
                acked=self.state.acked,
                prev=self.state.link,
                wall_ms=self.state.wall_ms,
                tables_from=self.state.documents.first_segment,
                gateway=self.state.gateway,
            )
            segment = start_segment(self._directory, header, size)
        except OSError as error:
            raise self.blocked(as_journal_error(error)) from error
        except (JournalFull, JournalWriteFailed) as error:
            raise self.blocked(error) from None
        if self.segment:
            with contextlib.suppress(OSError):
                self.segment.close(trim=False)
        self.segment = segment
        self.last_number = header.number
        self._durable_acked = self.state.acked
        self.index = SegmentIndex(header)
        self._catalog.set_live(Entry(header, size, time.time()), self.index)
        if self._is_folder_new:
            self._settle_in(header.number)

    def _settle_in(self, number: int) -> None:
        # The tables stood in segments that are gone with the old folder; what they hold is still in memory.
        self._catalog.drop_vanished()
        try:
            for part in self.state.documents.snapshot(number):
                if not self.fits(len(part)):
                    log.warning("a part of the journal's tables did not fit into the new folder's first segment")
                    break
                self.write([(FrameKind.TABLE, self.state.head, part)])
        except OSError as error:
            self.abandon()
            raise self.blocked(as_journal_error(error)) from error
        self.state.documents.moved(number, number)
        if self.index is not None and self.segment is not None:
            self.index.end = self.segment.end
        self._is_folder_new = False

    def give_way(self) -> None:
        """Try at once when next asked: the watermark rose, so there may be room."""
        self._last_error = None

    def blocked(self, error: JournalFull | JournalWriteFailed) -> JournalFull | JournalWriteFailed:
        """Raise the alarm and refuse for a moment without asking the disk again."""
        self._last_error = error
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self.vitals.alarm = str(error)
        return error

    def _allocate(self) -> None:
        if self.used_bytes() + self._limits.segment_bytes > self._limits.quota_bytes:
            self.forget(now=None)
        if self.used_bytes() + self._limits.segment_bytes > self._limits.quota_bytes:
            raise self.blocked(
                JournalFull(
                    f"The journal's quota of {self.quota_bytes >> 20} MiB is used up by events that the hub does not "
                    "have yet; bring the hub back or raise journal.quota_mib."
                )
            )
        try:
            allocate_spare(self._directory, self._limits.segment_bytes)
        except OSError as error:
            # Kept for replay only: what the hub has is given up before anything new is refused.
            if not self.forget(now=None):
                raise
            log.warning("acknowledged segments were removed early, the disk is full (%s)", error)
            allocate_spare(self._directory, self._limits.segment_bytes)

    def prepare_spare(self) -> None:
        """Reserve the next segment in the second half of this one, so that a full disk is known before it hurts."""
        if self.segment is None:
            self._try_roll()
            return
        segment = self.segment
        if segment.room > segment.size // 2 or spare_exists(self._directory):
            self.vitals.alarm = self.vitals.space_alarm = None
            return
        if time.monotonic() < self._retry_at:
            return
        try:
            self._is_folder_new |= self._reclaim()
            self._allocate()
            self.vitals.alarm = self.vitals.space_alarm = None
        except OSError as error:
            self.blocked(as_journal_error(error))
        except (JournalFull, JournalWriteFailed) as error:
            self.blocked(error)
            log.warning("%s", error)
        if self.vitals.alarm:
            self.vitals.space_alarm = f"The journal is in its last segment. {self.vitals.alarm}"
            if self.fits(MAX_EVENT_BYTES):
                self.vitals.alarm = None

    def _try_roll(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        try:
            self.roll()
        except (JournalFull, JournalWriteFailed) as error:
            log.debug("the journal still cannot be written: %s", error)
        else:
            self.vitals.alarm = self.vitals.space_alarm = None

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def segment_bytes(self) -> int:
        return self._limits.segment_bytes

    @property
    def quota_bytes(self) -> int:
        return self._limits.quota_bytes

    def used_bytes(self) -> int:
        """Return what the segments take of the quota, the reserved one included."""
        total = sum(entry.size for entry in self._catalog.entries)
        return total + (self._limits.segment_bytes if spare_exists(self._directory) else 0)

    def forget(self, *, now: float | None) -> bool:
        """Unlink what lies below the watermark and is older than the retention; with `now` None whatever its age."""
        victims: list[int] = []
        entries = self._catalog.entries
        for place, entry in enumerate(entries[:-1]):
            end_seq = entries[place + 1].header.first_seq
            if end_seq - 1 > self.state.acked or (now is not None and not self._aged(entry, now)):
                break
            victims.append(entry.number)
        if not victims:
            return False
        try:
            self._make_needless(victims[-1])
        except (JournalFull, JournalWriteFailed):
            return False
        except OSError as error:
            log.warning("the watermark could not be kept (%s); nothing is removed", error)
            self.abandon()
            return False
        for number in victims:
            self._catalog.forget(number)
            segment_path(self._directory, number).unlink(missing_ok=True)
        sync_directory(self._directory)
        self._last_error = None
        return True

    def _aged(self, entry: Entry, now: float) -> bool:
        if entry.closed_at < _CLOCK_IS_SET <= now:
            # Closed before the clock was right: its age counts from now.
            entry.closed_at = now
        return now - entry.closed_at >= self._limits.keep_seconds

    def _make_needless(self, up_to: int) -> None:
        # Snapshot and watermark are synced before anything is unlinked.
        snapshot = [(FrameKind.TABLE, self.state.head, part) for part in self.state.documents.snapshot(up_to)]
        size = sum(HEAD_BYTES + len(part) for _, _, part in snapshot)
        if self.segment is None or size + 2 * HEAD_BYTES > self.segment.room:
            # Full, or full at the start: a small segment above the quota takes what allows the large ones to go.
            self.roll(size=DATA_START + RESERVE_BYTES + size)
        if not snapshot and self.state.acked <= self._durable_acked:
            return
        self.write(snapshot)
        segment, index = self.segment, self.index
        assert segment is not None
        assert index is not None
        self.state.documents.moved(up_to, segment.header.number)
        index.end = segment.end

    def finish(self) -> None:
        """Keep the watermark, return the unused space back and close; after an error recovery does it."""
        segment = self.segment
        if segment is None:
            drop_spare(self._directory)
            return
        try:
            if self.state.acked > self._durable_acked and segment.room >= HEAD_BYTES:
                self.write([])
            segment.close(trim=True)
        except OSError as error:
            log.warning("the journal's last segment could not be closed in order (%s); recovery will do it", error)
        drop_spare(self._directory)
        self.segment = None
