"""What the writing journal and a reader of another process have in common: reading events and tables."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from gateway.access.event import Event
from gateway.errors import JournalMisuse
from gateway.journal.catalog import Catalog, Damage
from gateway.journal.chain import Chain
from gateway.journal.documents import Documents, TableChange
from gateway.journal.recovery import State, damage_of, recover


class JournalFace(ABC):
    """Reads one journal folder."""

    def __init__(self, directory: Path, catalog: Catalog) -> None:
        self.directory = directory
        self.catalog = catalog
        self._chain = Chain(catalog)
        self.table_lock = threading.Lock()

    @property
    @abstractmethod
    def epoch(self) -> str:
        """Return the 8 hex digits that were drawn when the journal was created."""

    @property
    @abstractmethod
    def head(self) -> int:
        """Return the number of the last durable event, 0 for none."""

    @property
    @abstractmethod
    def acked(self) -> int:
        """Return the watermark: the hub has everything up to this number."""

    @property
    @abstractmethod
    def documents(self) -> Documents:
        """Return the named tables."""

    @property
    def oldest(self) -> int:
        """Return the number of the first event that is still in the folder."""
        return self.catalog.oldest_seq

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return number and stored bytes of at most `limit` durable events after `seq`, oldest first.

        An event that cannot be read any more is replaced by one of kind `system` that says so. Events that were
        unlinked below the watermark are left out.
        """
        first = max(seq + 1, min(self.catalog.oldest_seq, self.acked + 1))
        found = list(self._chain.events(first, min(first + limit - 1, self.head)))
        # A segment that was unlinked meanwhile held nothing that the hub lacks; its events are not lost but forgotten.
        oldest = min(self.catalog.oldest_seq, self.acked + 1)
        return found if first >= oldest else [(number, raw) for number, raw in found if number >= oldest]

    def stored(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Return number and bytes of the events that are in the folder and can be read."""
        last = self.head if last is None else min(last, self.head)
        for seq, raw in self.catalog.events(max(first, self.catalog.oldest_seq), last):
            if raw is not None:
                yield seq, raw

    def refresh(self) -> None:
        """Look at what other processes wrote since; nothing to do where the writing happens here."""
        return

    def keep_event(self, event: Event) -> int:
        """Keep one event and return its number.

        Raises:
            JournalMisuse: this journal is open for reading only.
        """
        raise JournalMisuse(f"An event of kind {event.kind!r} cannot be added: the journal is open for reading only.")

    def change_table(self, change: TableChange) -> None:
        """Make one change of a named table durable.

        Raises:
            JournalMisuse: this journal is open for reading only.
        """
        raise JournalMisuse(f"Table {change.table!r} cannot be changed: the journal is open for reading only.")


class JournalReader(JournalFace):
    """Reads a journal that another process may be writing; changes nothing in the folder.

    Raises:
        BadRecord: a later version of this software wrote here.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Catalog(directory))
        self._state: State | None = None
        self.refresh()

    @classmethod
    def open(cls, directory: Path) -> Self:
        return cls(directory)

    def refresh(self) -> None:
        self.catalog.load()
        self._state = recover(self.catalog)

    @property
    def epoch(self) -> str:
        return self._state.epoch.hex() if self._state else ""

    @property
    def gateway(self) -> str:
        return self._state.gateway if self._state else ""

    @property
    def boot(self) -> int:
        return self._state.boot if self._state else 0

    @property
    def head(self) -> int:
        return self._state.head if self._state else 0

    @property
    def acked(self) -> int:
        return self._state.acked if self._state else 0

    @property
    def documents(self) -> Documents:
        return self._state.documents if self._state else Documents()

    @property
    def cut(self) -> tuple[int, int] | None:
        """Return the newest events that were durable and are gone, None when all are there."""
        if self._state is not None:
            return self._state.cut
        anchored = self.catalog.anchored
        return (1, anchored.head) if anchored is not None and anchored.head else None

    def damage(self) -> list[Damage]:
        """Scan every segment and name all damage."""
        found: list[Damage] = []
        for place in range(len(self.catalog.entries)):
            found += damage_of(self.catalog, place, self.head + 1)
        for number in self.catalog.unreadable:
            found.append(Damage(number, 0, 0, (), torn=False, what=f"nothing of segment {number} can be read"))
        return found
