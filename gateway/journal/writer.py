"""The one thread that writes: group commit without a timer, and what to do when the disk says no.

What arrived while one sync ran goes with the next. Law of this file: nothing is told as kept before its sync returned;
after a failed write or sync the descriptor is given up and what was not synced is written again into a new segment,
once (tail.py owns the segments).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.access.event import Event, decode_event, encode_event
from gateway.errors import JournalFull, JournalMisuse, JournalWriteFailed
from gateway.journal.anchor import Anchor
from gateway.journal.catalog import Catalog, Damage
from gateway.journal.chain import Chain, link_of, trusted_ms
from gateway.journal.epochs import write_again
from gateway.journal.frames import HEAD_BYTES, Frame, FrameKind
from gateway.journal.jobs import Acknowledge, Append, Barrier, BeginEpoch, Change, Job, Stop, Ticket
from gateway.journal.recovery import MAX_GROUP, State, recover
from gateway.journal.segments import as_journal_error
from gateway.journal.tail import MAX_EVENT_BYTES, Tail
from gateway.journal.unsaved import Unsaved

log = logging.getLogger(__name__)

_LEAP_GROUP = 64
_MEMORY_GROUP = 32

Subscriber = Callable[[int, bytes, Event], None]


@dataclass(slots=True)
class _Record:
    kind: FrameKind
    number: int
    payload: bytes
    job: Append | Change | None = None
    from_memory: bool = False


def _parts(jobs: list[Job]) -> list[list[Job]]:
    # A new epoch stands alone: what came before it has the old numbers, what came after it the new ones.
    parts: list[list[Job]] = [[]]
    for job in jobs:
        if isinstance(job, BeginEpoch):
            parts += [[job], []]
        else:
            parts[-1].append(job)
    return [part for part in parts if part]


class Writer:
    """Alone changes the state and the tail; other threads put jobs and read."""

    def __init__(self, catalog: Catalog, state: State, tail: Tail, unsaved: Unsaved, anchor: Anchor) -> None:
        self.unsaved = unsaved
        self._anchor = anchor
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.subscribers: list[Subscriber] = []
        self.state = state
        self._catalog = catalog
        self._tail = tail
        self._first_of_boot = state.head + 1
        self.switching = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        """Begin the segment of this boot and start the thread; a full disk is an alarm, not an error."""
        try:
            self._tail.roll()
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
                for part in _parts(jobs):
                    self._commit(part)
            except Exception:
                log.exception("the journal writer met a fault of its own; the records of this group are refused")
                self._refuse_open(jobs, "The journal met a fault of its own; the log names it.")
        self._take_from_memory()
        self._tail.finish()
        self._anchor.close()
        late: list[Job] = []
        while not self.jobs.empty():
            late.append(self.jobs.get())
        self._refuse_open(late, "The journal was closed before this event came.")
        self.unsaved.write()
        self.unsaved.close()

    def _refuse_open(self, jobs: list[Job], why: str) -> None:
        error = JournalWriteFailed(why)
        for job in jobs:
            if isinstance(job, Append) and not job.ticket.done:
                self._refuse(job, error)
            elif isinstance(job, Change | Barrier | BeginEpoch) and not job.ticket.done:
                job.ticket.fail(error)

    def _commit(self, jobs: list[Job]) -> None:
        if len(jobs) == 1 and isinstance(jobs[0], BeginEpoch):
            self._begin_epoch(jobs[0])
            return
        has_watermark = self._take_watermarks(jobs)
        self._take_from_memory()
        group: list[_Record] = []
        size = 0
        for job in jobs:
            if not isinstance(job, Append | Change):
                continue
            record = self._record(job, group)
            if record and not self._tail.fits(size + HEAD_BYTES + len(record.payload)):
                self._flush(group)
                group, size = [], 0
                try:
                    if not self._tail.fits(HEAD_BYTES + len(record.payload)):
                        self._tail.roll()
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
            self._tail.forget(now=time.time())
        self._tail.prepare_spare()
        if not self._tail.vitals.alarm:
            self._take_from_memory()
        self.unsaved.write()
        for job in jobs:
            if isinstance(job, Barrier):
                job.ticket.resolve(self.state.head)

    def _take_watermarks(self, jobs: list[Job]) -> bool:
        # A word about the epoch before says nothing of the numbers of this one.
        marks = [job for job in jobs if isinstance(job, Acknowledge) and job.epoch == self.state.epoch]
        for job in marks:
            upto = job.upto
            if upto > self.state.head and job.may_leap:
                self._leap(upto)
            if upto > self.state.acked:
                self.state.acked = min(upto, self.state.head)
                self._tail.give_way()
        return bool(marks)

    def _record(self, job: Append | Change, group: list[_Record]) -> _Record | None:
        if isinstance(job, Change):
            return _Record(FrameKind.TABLE, self.state.head, job.payload, job)
        event = job.event
        before = next((record for record in reversed(group) if record.kind is FrameKind.EVENT), None)
        event.epoch = self.state.epoch.hex()
        event.seq = before.number + 1 if before else self.state.head + 1
        event.prev = (link_of(before.payload) if before else self.state.link).hex()
        try:
            raw = encode_event(event)
        except (TypeError, ValueError) as error:
            job.ticket.fail(JournalMisuse(f"An event of kind {event.kind!r} cannot be written as JSON: {error}."))
            return None
        if len(raw) > MAX_EVENT_BYTES:
            job.ticket.fail(JournalMisuse(f"An event may have {MAX_EVENT_BYTES} bytes; this one has {len(raw)}."))
            return None
        return _Record(FrameKind.EVENT, event.seq, raw, job)

    def _begin_epoch(self, job: BeginEpoch) -> None:
        """Write every event after a number into a new epoch (see epochs.py) and go on there."""
        state, tail = self.state, self._tail
        try:
            write_again(self._catalog, state, tail.limits, job.after, tail.last_number)
        except (JournalFull, JournalWriteFailed) as error:
            job.ticket.fail(error)
            return
        except OSError as error:
            job.ticket.fail(as_journal_error(error))
            return
        self._catalog.load()
        found = recover(self._catalog)
        assert found is not None
        log.warning("journal: epoch %s goes on as %s after event %d", state.epoch.hex(), found.epoch.hex(), job.after)
        with self.switching:
            state.take_over(found)
        self._first_of_boot = state.head + 1
        tail.restart()
        try:
            tail.roll()
        except (JournalFull, JournalWriteFailed) as error:
            log.warning("the journal cannot be written: %s", error)
        job.ticket.resolve(state.head)

    def _leap(self, upto: int) -> None:
        """Go on after what an older hub already has: this folder is older than the gateway's last run.

        The card was restored from a copy, or lost its newest sectors. Numbers that the hub knows are never given
        again; events of this boot that got such numbers are written again under new ones.
        """
        first_lost, head = self._first_of_boot, self.state.head
        again = [decode_event(raw) for _, raw in self._catalog.events(first_lost, head) if raw is not None]
        text = f"the hub has events up to {upto} and this journal only up to {first_lost - 1}: its card is older"
        log.warning("journal: %s; %d events of this boot get new numbers", text, len(again))
        number = self._tail.last_number
        before = self.state.acked, self.state.tip
        self.state.tip = upto, Chain(self._catalog).link_after(upto)
        self.state.acked = upto
        try:
            self._tail.roll()
        except (JournalFull, JournalWriteFailed):
            self.state.acked, self.state.tip = before
            return
        self._first_of_boot = upto + 1
        self.state.damage.append(Damage(number, 0, 0, ((first_lost, upto),), torn=False, what=text))
        self._flush_all([Append(event, Ticket()) for event in again])

    def _take_from_memory(self) -> None:
        """Write what the disk refused before, the oldest first; it keeps its number of the memory in `was`."""
        while events := self.unsaved.oldest(_MEMORY_GROUP):
            group: list[_Record] = []
            for event in events:
                record = self._record(Append(event, Ticket()), group)
                if record is None:
                    self.unsaved.lose(event, "The event is too large for the journal.")
                    self.unsaved.kept(event)
                    continue
                record.from_memory = True
                group.append(record)
            try:
                if not self._tail.fits(sum(HEAD_BYTES + len(record.payload) for record in group)):
                    self._tail.roll()
            except (JournalFull, JournalWriteFailed):
                return
            if not self._flush(group):
                return
            for event in events:
                self.unsaved.kept(event)

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
        self._tail.vitals.refused += 1
        self._tail.vitals.last_refusal = str(error)
        if isinstance(job, Append):
            self.unsaved.take(job.event, str(error))
        job.ticket.fail(error)

    def _flush(self, group: list[_Record]) -> bool:
        if not group:
            return True
        try:
            offset = self._tail.write([(record.kind, record.number, record.payload) for record in group])
        except OSError as error:
            log.warning("the disk refused records of segment %s (%s); trying a new one", self._tail.last_number, error)
            self._tail.abandon()
            try:
                self._tail.roll()
                offset = self._tail.write([(record.kind, record.number, record.payload) for record in group])
            except OSError as again:
                self._tail.abandon()
                self._fail(group, self._tail.blocked(as_journal_error(again)))
                return False
            except (JournalFull, JournalWriteFailed) as refused:
                self._fail(group, refused)
                return False
        self._tail.vitals.alarm = None
        self._publish(group, offset)
        return True

    def _publish(self, group: list[_Record], offset: int) -> None:
        index, segment = self._tail.index, self._tail.segment
        assert index is not None
        assert segment is not None
        events: list[_Record] = []
        for record in group:
            end = offset + HEAD_BYTES + len(record.payload)
            if record.kind is FrameKind.EVENT:
                index.add(Frame(record.kind, record.number, offset, end))
                events.append(record)
            else:
                self.state.documents.apply(record.payload, segment.header.number)
            offset = end
        index.end = segment.end
        if events:
            self.state.tip = events[-1].number, link_of(events[-1].payload)
            self._anchor.set(self.state.epoch.hex(), *self.state.tip)
        for record in group:
            if record.job:
                record.job.ticket.resolve(record.number)
        for record in events:
            if isinstance(record.job, Append):
                self.state.wall_ms = max(self.state.wall_ms, trusted_ms(record.job.event))
                self._tell(record.number, record.payload, record.job.event)

    def _tell(self, seq: int, raw: bytes, event: Event) -> None:
        for subscriber in self.subscribers:
            try:
                subscriber(seq, raw, event)
            except Exception:
                log.exception("a subscriber of the journal raised; it is called again with the next event")

    def _fail(self, group: list[_Record], error: JournalFull | JournalWriteFailed) -> None:
        for record in group:
            if record.job and not record.from_memory:
                self._refuse(record.job, error)
