"""Stand-ins for a journal that cannot be opened and a reader that cannot be built.

They keep the shape of the real ones, so that nothing else of the daemon has to know. What asks them for their work gets
the error that the real ones raise when they fail while they run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinydb import TinyDB
from tinydb.storages import MemoryStorage

from gateway.access.event import Event
from gateway.errors import JournalWriteFailed, ReaderOffline
from gateway.journal.folder import Folder
from gateway.journal.jobs import Ticket
from gateway.journal.journal import JournalStats
from gateway.journal.unsaved import Unsaved, runtime_folder
from gateway.points.actions import Signal
from gateway.readers.base import ReaderEvent, Vitals


class AbsentJournal:
    """Refuses every event with the reason; doors act before they record, lanes and kiosks do not serve.

    What it refuses is counted for the next start, in memory of the machine: the folder may be somebody else's.
    """

    epoch = ""
    boot = head = acked = wall_ms = 0
    oldest = 1
    position = (0, "")

    def __init__(self, directory: Path, why: str) -> None:
        self.directory, self._why = directory, why
        self._refused = 0
        self.unsaved = Unsaved(directory, runtime_folder(), in_folder=False)
        # What is kept in named tables is forgotten with the process.
        self.tinydb = TinyDB(storage=MemoryStorage)

    def append(self, event: Event) -> Ticket:
        self._refused += 1
        self.unsaved.lose(event, self._why)
        self.unsaved.write()
        ticket = Ticket()
        ticket.fail(JournalWriteFailed(self._why))
        return ticket

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        del seq, limit
        return []

    def subscribe(self, callback: Callable[[int, bytes, Event], None]) -> None:
        del callback

    def stats(self) -> JournalStats:
        return JournalStats(
            epoch=self.epoch,
            boot=0,
            head=0,
            acked=0,
            waiting=0,
            oldest_waiting_seconds=None,
            bytes=0,
            quota_bytes=0,
            disk_free_bytes=Folder(self.directory).free_bytes(),
            sync_ms_p50=0.0,
            sync_ms_max=0.0,
            refused=self._refused,
            last_refusal=self._why,
            unsaved=0,
            lost=self._refused,
            state="alarm",
            reason=self._why,
            damage=(),
        )

    def close(self) -> None:
        """Do nothing; there is nothing open."""


class AbsentReader:
    """A reader that is configured and cannot be built; it is offline for the reason given."""

    pause_seconds = 1.0

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why
        self.vitals = Vitals(state="faulty", detail=why)

    def open(self) -> None:
        raise ReaderOffline(self._why)

    def poll(self) -> list[ReaderEvent]:
        raise ReaderOffline(self._why)

    def signal(self, signal: Signal) -> bool:
        del signal
        return False

    def close(self) -> None:
        """Do nothing; nothing is open."""
