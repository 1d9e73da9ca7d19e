"""The journal as a TinyDB storage: TinyDB reads all tables through it and never rewrites them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec
from tinydb.storages import Storage

from gateway.errors import JournalMisuse
from gateway.journal.face import JournalFace

EVENTS = "_default"


class EventDocuments(Mapping[str, dict[str, Any]]):
    """The stored events as TinyDB sees a table: text of the sequence number to document, read when asked for."""

    def __init__(self, journal: JournalFace) -> None:
        self._journal = journal

    def __getitem__(self, key: str) -> dict[str, Any]:
        seq = int(key)
        for _, raw in self._journal.stored(seq, seq):
            return _decode(raw)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        for seq, _ in self._journal.stored():
            yield str(seq)

    def __len__(self) -> int:
        return sum(1 for _ in self._journal.stored())

    def __bool__(self) -> bool:
        return next(self._journal.stored(), None) is not None

    def items(self) -> Any:
        """Return pairs in the order of the numbers, without holding more than a few of them."""
        return ((str(seq), _decode(raw)) for seq, raw in self._journal.stored())


def _decode(raw: bytes) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(raw)
    return document


class TableDocuments(Mapping[str, dict[str, Any]]):
    """The documents of one named table at one moment; each look gives a fresh copy."""

    def __init__(self, stored: dict[int, bytes]) -> None:
        self._stored = stored

    def __getitem__(self, key: str) -> dict[str, Any]:
        try:
            return _decode(self._stored[int(key)])
        except ValueError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        # By id: the order in which changes are replayed after a snapshot says nothing.
        return map(str, sorted(self._stored))

    def __len__(self) -> int:
        return len(self._stored)


class JournalStorage(Storage):
    """Shows the journal to TinyDB as a storage; `write` is refused, the tables of table.py never call it."""

    def __init__(self, journal: JournalFace) -> None:
        super().__init__()
        self.journal = journal

    def read(self) -> dict[str, Any]:
        """Return all tables; the one of the events is read lazily."""
        self.journal.refresh()
        tables: dict[str, Any] = {
            name: TableDocuments(dict(stored)) for name, stored in list(self.journal.documents.tables.items())
        }
        tables[EVENTS] = EventDocuments(self.journal)
        return tables

    def write(self, data: dict[str, dict[str, Any]]) -> NoReturn:
        """Refuse.

        Raises:
            JournalMisuse: always; the whole database is never written.
        """
        raise JournalMisuse(
            f"The journal is never rewritten as a whole ({len(data)} tables were given); change one named table, "
            "or use `tapgate journal export` for a copy."
        )
