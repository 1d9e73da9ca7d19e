"""The journal of one gateway: append, read, acknowledge.

One Journal a folder may write, a lock says so; any number of JournalReaders in other processes may read meanwhile.

Over 400 lines because the lock, the writer and the readers of one folder share their state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Self

from gateway.access.event import Event, decode_event
from gateway.errors import BadMessage, JournalFull, JournalMisuse, JournalWriteFailed
from gateway.journal.anchor import Anchor
from gateway.journal.catalog import Catalog, Damage
from gateway.journal.chain import choose_points
from gateway.journal.documents import MAX_CHANGE_BYTES, Documents, TableChange, encode_change
from gateway.journal.epochs import finish_switch
from gateway.journal.face import JournalFace
from gateway.journal.folder import Folder
from gateway.journal.healing import Healing
from gateway.journal.jobs import Acknowledge, Append, Barrier, BeginEpoch, Change, Stop, Ticket
from gateway.journal.recovery import State, recover
from gateway.journal.segments import DATA_START, drop_spare, segment_path, sync_directory
from gateway.journal.table import JournalDB
from gateway.journal.tail import Limits, Tail
from gateway.journal.unsaved import Unsaved, runtime_folder
from gateway.journal.writer import Subscriber, Writer

log = logging.getLogger(__name__)

MAX_PENDING = 20_000
MAX_LEAP = 100_000
QUARANTINE = "damage"
_QUARANTINE_FILES = 16
_TABLE_SECONDS = 30.0
_EPOCH_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class JournalStats:
    """How the journal does, for the status page.

    Attributes:
        waiting: events that the hub does not have.
        oldest_waiting_seconds: age of the oldest of them, None when there is none.
        refused: records that the disk refused since the start; `last_refusal` says why the newest of them.
        unsaved: events among them that wait in memory for the disk.
        lost: events among them that are gone.
        state: `ok` or `alarm`; `reason` says why in one sentence.
    """

    epoch: str
    boot: int
    head: int
    acked: int
    waiting: int
    oldest_waiting_seconds: float | None
    bytes: int
    quota_bytes: int
    disk_free_bytes: int
    sync_ms_p50: float
    sync_ms_max: float
    refused: int
    last_refusal: str
    unsaved: int
    lost: int
    state: str
    reason: str
    damage: tuple[Damage, ...]


class Journal(JournalFace):
    """The writing end; `append`, `after`, `acknowledge` and `stats` may be called from any thread."""

    def __init__(self, folder: Folder, catalog: Catalog, tail: Tail, writer: Writer) -> None:
        super().__init__(folder.path, catalog)
        self._folder = folder
        self.unsaved = writer.unsaved
        self._state = writer.state
        self._tail = tail
        self._writer = writer
        self._closed = False
        self._have: tuple[tuple[int, int], ...] = ()
        self._acked = writer.state.acked
        self._oldest_waiting: tuple[int, Event | None] = (0, None)
        self.tinydb = JournalDB(self)

    @classmethod
    def open(
        cls,
        directory: Path,
        gateway_id: str,
        *,
        quota_bytes: int = 256 << 20,
        segment_bytes: int = 1 << 20,
        keep_days: float = 7,
    ) -> Self:
        """Open or create the journal of a folder, repair what a power cut left, and start a new segment.

        A segment is at most a quarter of the quota. A disk that is full, read-only or away is no error: the journal
        opens in alarm, keeps what comes in memory, and goes on as soon as it can.

        Raises:
            JournalLocked: another process writes here.
            JournalMisuse: the journal is another gateway's.
            BadRecord: a later version of this software wrote here.
        """
        folder = Folder(directory)
        unsaved = Unsaved(directory, runtime_folder())
        catalog = Catalog(directory)
        try:
            state = _open_folder(folder, catalog, gateway_id)
            unsaved.prepare()
            limits = Limits(min(segment_bytes, quota_bytes // 4), quota_bytes, keep_days * 86400.0)
            healing = Healing(folder, catalog, state)
            tail = Tail(directory, catalog, state, limits, healing.reclaim)
            healing.tail = tail
            writer = Writer(catalog, state, tail, unsaved, Anchor(directory))
            last = catalog.entries[-1].number if catalog.entries else 0
            writer.start()
            if tail.segment is not None:
                _drop_if_empty(catalog, last)
        except BaseException:
            folder.release()
            raise
        for damage in state.damage:
            log.warning("journal: %s; missing events: %s", damage.what, damage.missing or "none")
        return cls(folder, catalog, tail, writer)

    @property
    def epoch(self) -> str:
        return self._state.epoch.hex()

    @property
    def boot(self) -> int:
        """Return how often this journal was opened for writing, this time included."""
        return self._state.boot

    @property
    def head(self) -> int:
        return self._state.head

    @property
    def acked(self) -> int:
        return max(self._acked, self._state.acked)

    @property
    def have(self) -> tuple[tuple[int, int], ...]:
        """Return the closed ranges above the watermark that the hub has too."""
        return self._have

    @property
    def documents(self) -> Documents:
        return self._state.documents

    @property
    def wall_ms(self) -> int:
        """Return the latest time that a trusted clock stamped on an event, milliseconds since 1970, 0 for none."""
        return self._state.wall_ms

    @property
    def position(self) -> tuple[int, str]:
        """Return the head and what the event after it carries as `prev`, both of one moment."""
        head, link = self._state.tip
        return head, link.hex()

    @property
    def place(self) -> tuple[str, int, str]:
        """Return epoch, head and link of one moment."""
        with self._writer.switching:
            return (self.epoch, *self.position)

    def append(self, event: Event) -> Ticket:
        """Hand an event to the writer and return at once; the journal fills in `epoch`, `seq` and `prev`.

        The event belongs to the journal from here on. `Ticket.wait` says when it is durable.

        Raises:
            JournalMisuse: the event is of another gateway, or the journal is closed.
        """
        if event.gw != self._state.gateway:
            raise JournalMisuse(f"This is the journal of {self._state.gateway!r}, not of {event.gw!r}.")
        ticket = Ticket()
        self._submit(Append(event, ticket))
        return ticket

    def keep_event(self, event: Event) -> int:
        return self.append(event).wait(_TABLE_SECONDS)

    def change_table(self, change: TableChange) -> None:
        """Make one change of a named table durable.

        Raises:
            JournalMisuse: the change is too large for one record.
            JournalFull: disk or quota is used up; nothing of the change was kept.
            JournalWriteFailed: the disk refused.
        """
        payload = encode_change(change)
        if len(payload) > MAX_CHANGE_BYTES:
            raise JournalMisuse(
                f"One change of table {change.table!r} may have {MAX_CHANGE_BYTES} bytes and this one has "
                f"{len(payload)}; make it in smaller steps."
            )
        ticket = Ticket()
        self._submit(Change(payload, ticket))
        ticket.wait(_TABLE_SECONDS)

    def _submit(self, job: Append | Change) -> None:
        if self._closed:
            raise JournalMisuse("The journal is closed.")
        if self._writer.jobs.qsize() >= MAX_PENDING:
            full = JournalFull(f"{MAX_PENDING} events wait for the disk already; this one was not kept.")
            if isinstance(job, Append):
                self.unsaved.lose(job.event, str(full))
            self._tail.vitals.refused += 1
            self._tail.vitals.last_refusal = str(full)
            job.ticket.fail(full)
            return
        self._writer.jobs.put(job)

    def links_after(self, seq: int) -> frozenset[str]:
        """Return what event `seq` + 1 carries as `prev`; empty above the head and where the folder no longer knows."""
        head, link = self.position
        if seq >= head:
            return frozenset({link}) if seq == head else frozenset()
        return self._chain.links_after(seq)

    def link_points(self) -> list[tuple[int, str]]:
        """Return the chain before the first event of each boot that is not wholly acknowledged, newest first.

        Further back they thin out, and the head and the watermark are there too, each as its number and the `prev` of
        the event after it.
        """
        head, link = self.position
        starts: dict[int, tuple[int, str]] = {}
        for entry in list(self.catalog.entries):
            header = entry.header
            starts.setdefault(header.boot, (header.first_seq - 1, header.prev.hex()))
        return choose_points(self._chain, sorted(starts.values(), reverse=True), self.acked, (head, link))

    def begin_epoch(self, after: int) -> int:
        """Write every event after a number into a new epoch, each with the number it had in `was`; return the head.

        For a hub that holds other events under the same numbers. All or nothing, also when the power fails.

        Raises:
            JournalFull, JournalWriteFailed: the disk refused; the journal is as it was, try again later.
        """
        self._have, self._acked = (), 0
        ticket = Ticket()
        self._writer.jobs.put(BeginEpoch(after, ticket))
        return ticket.wait(_EPOCH_SECONDS)

    def acknowledge(
        self, upto: int, have: Sequence[tuple[int, int]] = (), *, link: str = "", may_leap: bool = False
    ) -> bool:
        """Take in the hub's watermark; it only rises. Tell whether it speaks of this journal's events.

        It does not when it lies above the head, or when `link` is not the `prev` of the event after `upto`: the hub
        holds other events under these numbers, and nothing is forgotten for it.

        Args:
            link: what the hub holds says of the event after `upto`; empty from a hub before 0.3, which is believed.
            may_leap: what a hub before 0.3 needs: one above the head makes the journal go on after it and write the
                events of this boot again under new numbers.

        The record of it goes to disk with the next event, or before anything after it is unlinked, or at close:
        losing it costs a second sending, which the hub recognises, so it is not worth a sync of its own.
        """
        head, epoch = self.head, self._state.epoch
        if upto > head and (not may_leap or upto > head + MAX_LEAP):
            log.warning("a watermark of %s was ignored, this journal ends at %s", upto, head)
            return False
        if link and upto > self.acked and (known := self.links_after(upto)) and link not in known:
            return False
        self._have = tuple((first, last) for first, last in have if last > upto)
        if upto > head:
            self._writer.jobs.put(Acknowledge(upto, epoch, may_leap=True))
        elif upto > self.acked:
            self._acked = upto
            self._writer.jobs.put(Acknowledge(upto, epoch))
        return True

    def settle(self, timeout_seconds: float = 30.0) -> int:
        """Wait until everything handed over so far is done, watermarks included, and return the head.

        Raises:
            JournalWriteFailed: the disk did not answer in time.
        """
        ticket = Ticket()
        self._writer.jobs.put(Barrier(ticket))
        return ticket.wait(timeout_seconds)

    def subscribe(self, callback: Subscriber) -> None:
        """Have `callback(seq, raw, event)` called for each event when it is durable, from the writer's thread.

        It must return quickly and hand the work over; what it raises is logged.
        """
        self._writer.subscribers.append(callback)

    def unsubscribe(self, callback: Subscriber) -> None:
        self._writer.subscribers.remove(callback)

    def stats(self) -> JournalStats:
        """Return the state of the journal; while there is an alarm this also makes the writer try again."""
        vitals = self._tail.vitals
        reason = vitals.alarm or vitals.space_alarm or ("" if self._writer.alive else "The journal's writer has ended.")
        if reason:
            self._writer.jobs.put(Acknowledge(0, self._state.epoch))
        head, acked = self.head, self.acked
        recent = list(vitals.sync_ms)
        return JournalStats(
            epoch=self.epoch,
            boot=self.boot,
            head=head,
            acked=acked,
            waiting=max(0, head - acked - self._held_above(head)),
            oldest_waiting_seconds=self._oldest_waiting_seconds(acked, head),
            bytes=self._tail.used_bytes(),
            quota_bytes=self._tail.quota_bytes,
            disk_free_bytes=self._folder.free_bytes(),
            sync_ms_p50=median(recent) if recent else 0.0,
            sync_ms_max=vitals.sync_ms_max,
            refused=vitals.refused,
            last_refusal=vitals.last_refusal,
            unsaved=self.unsaved.held,
            lost=self.unsaved.lost.count,
            state="alarm" if reason else "ok",
            reason=reason,
            damage=tuple(self._state.damage),
        )

    def _held_above(self, head: int) -> int:
        return sum(min(last, head) - first + 1 for first, last in self._have if first <= head)

    def _oldest_waiting_seconds(self, acked: int, head: int) -> float | None:
        if acked >= head:
            return None
        if self._oldest_waiting[0] != acked + 1:
            event = None
            try:
                event = decode_event(self._chain.raw(acked + 1))
            except BadMessage:
                log.warning("event %s in the journal is of no form this software knows", acked + 1)
            self._oldest_waiting = (acked + 1, event)
        event = self._oldest_waiting[1]
        if event is None:
            return None
        if event.boot == self.boot:
            return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - event.up)
        written = datetime.fromisoformat(event.at)
        return max(0.0, (datetime.now(UTC) - written).total_seconds())

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Write what is waiting, return the unused space back and let the lock go; may be called twice.

        Raises:
            JournalWriteFailed: the disk did not answer in time; the lock stays until the process ends.
        """
        if not self._closed:
            self._closed = True
            self._writer.jobs.put(Stop())
        if not self._writer.join(timeout_seconds):
            raise JournalWriteFailed("The disk did not answer while the journal was closed; what it holds is intact.")
        self._folder.release()


def _open_folder(folder: Folder, catalog: Catalog, gateway_id: str) -> State:
    """Claim a folder and say where it stands; one that cannot be read or written now begins in memory."""
    try:
        folder.claim()
    except OSError as error:
        log.error("the journal's folder cannot be used now, events are kept in memory: %s", error)  # noqa: TRY400  # told
    try:
        drop_spare(folder.path)
        finish_switch(folder.path)
        catalog.load()
        return _next_boot(catalog, gateway_id)
    except OSError as error:
        log.error("the journal's folder cannot be read now, events are kept in memory: %s", error)  # noqa: TRY400  # told
        catalog.entries, catalog.unreadable = [], []
        return State.fresh(gateway_id)


def _next_boot(catalog: Catalog, gateway_id: str) -> State:
    state = recover(catalog)
    if state is None:
        _quarantine(catalog.directory, catalog.unreadable)
        for number in catalog.unreadable:
            segment_path(catalog.directory, number).unlink(missing_ok=True)
        return State.fresh(gateway_id)
    if state.gateway != gateway_id:
        raise JournalMisuse(
            f"The journal in {catalog.directory} is that of gateway {state.gateway!r}, not of {gateway_id!r}; give the "
            "gateway its old id, or move the folder away to begin a new journal."
        )
    _quarantine(catalog.directory, [damage.segment for damage in state.damage])
    _tidy(catalog)
    state.boot += 1
    return state


def _quarantine(directory: Path, numbers: Sequence[int]) -> None:
    # The bytes are kept for whoever wants to know; a failing card must not fill itself with copies.
    if not numbers:
        return
    folder = directory / QUARANTINE
    try:
        folder.mkdir(exist_ok=True)
        kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in kept[: max(0, len(kept) + len(set(numbers)) - _QUARANTINE_FILES)]:
            old.unlink()
        for number in sorted(set(numbers))[-_QUARANTINE_FILES:]:
            source = segment_path(directory, number)
            copy = folder / source.name
            if source.exists() and not copy.exists():
                shutil.copyfile(source, copy)
    except OSError as error:
        log.warning("the damaged bytes could not be set aside (%s); they stay where they are", error)


def _tidy(catalog: Catalog) -> None:
    # The last boot's segment loses its torn tail and its unused rest.
    entry, index = catalog.entries[-1], catalog.index_of(len(catalog.entries) - 1)
    if entry.size <= index.end:
        return
    # Needed for the space only: what lies behind the last good record is never read as one.
    with contextlib.suppress(OSError):
        with segment_path(catalog.directory, entry.number).open("r+b") as file:
            file.truncate(index.end)
            os.fsync(file.fileno())
        entry.size = index.end


def _drop_if_empty(catalog: Catalog, number: int) -> None:
    # Starts without events must not eat the quota. Only when the new header, which says all that this one said, is
    # durable; and not when numbers were lost in it, for their range ends in its header.
    place = next((place for place, entry in enumerate(catalog.entries) if entry.number == number), None)
    if place is None or catalog.entries[place].size > DATA_START:
        return
    if catalog.entries[place].header.first_seq == catalog.end_seq(place):
        with contextlib.suppress(OSError):
            segment_path(catalog.directory, number).unlink(missing_ok=True)
            catalog.forget(number)
            sync_directory(catalog.directory)
