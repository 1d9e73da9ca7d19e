"""TinyDB, Table and Query over the journal.

The default table holds the events: queries work, insert appends one event in constant time, everything that would alter
or remove one is refused. Named tables take every TinyDB operation; each is one record in the journal, so it happened as
a whole or not at all. TinyDB is pinned to 4.9: `_read_table`, `_update_table` and `_get_next_id` are its private seams,
and tests/journal/test_tinydb_contract.py holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

import msgspec
from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Document, Table

from gateway.access.event import Event
from gateway.errors import JournalMisuse
from gateway.journal.documents import TableChange
from gateway.journal.face import JournalFace
from gateway.journal.storage import EVENTS, JournalStorage


class EventTable(Table):
    """The events; a document's id is its sequence number."""

    def __init__(self, storage: Storage, name: str, cache_size: int = 0, persist_empty: bool = False) -> None:  # noqa: ARG002  # TinyDB passes it
        # The query cache would pin whole results, and an empty table of events needs no persisting.
        super().__init__(storage, name, cache_size=cache_size)

    def insert(self, document: Mapping[str, Any]) -> int:
        """Append one event and wait until it is durable.

        Raises:
            JournalMisuse: the document is no event, or brings a number of its own.
        """
        if isinstance(document, Document):
            raise JournalMisuse("An event gets its number from the journal; insert a plain mapping.")
        try:
            event = msgspec.convert(dict(document), Event)
        except msgspec.ValidationError as error:
            raise JournalMisuse(f"The default table holds events only, and this is none: {error}.") from None
        seq = _journal(self).keep_event(event)
        self.clear_cache()
        return seq

    def insert_multiple(self, documents: Any) -> list[int]:
        return [self.insert(document) for document in documents]

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> NoReturn:  # noqa: ARG002  # TinyDB's seam
        raise JournalMisuse(
            "Events are written once and never altered or removed; the journal forgets them when the hub has them."
        )


class DocumentTable(Table):
    """A named table: small, in memory, each operation one record."""

    def __init__(self, storage: Storage, name: str, cache_size: int = 0, persist_empty: bool = False) -> None:
        super().__init__(storage, name, cache_size=cache_size)
        self._draft_next_id = 0
        # TinyDB's own persist_empty wipes a table that exists.
        if persist_empty and name not in _journal(self).documents.tables:
            _journal(self).change_table(TableChange(name, next=self._peek_next_id()))

    def insert(self, document: Mapping[str, Any]) -> int:
        """Insert one document without touching the others.

        Raises:
            ValueError: not a mapping, or its id is taken.
            JournalMisuse: too large, or not writable as JSON.
            JournalFull: disk or quota is used up; nothing was changed.
        """
        if not isinstance(document, Mapping):
            raise ValueError("Document is not a Mapping")  # noqa: TRY004  # what TinyDB raises here
        journal = _journal(self)
        with journal.table_lock:
            stored = journal.documents.tables.get(self.name, {})
            doc_id = document.doc_id if isinstance(document, Document) else self._peek_next_id()
            if doc_id in stored:
                raise ValueError(f"Document with ID {doc_id} already exists")
            change = TableChange(
                self.name, {doc_id: _encode(self.name, dict(document))}, next=self._number_after(doc_id)
            )
            journal.change_table(change)
        self.clear_cache()
        return int(doc_id)

    def _peek_next_id(self) -> int:
        return _journal(self).documents.next_ids.get(self.name, 1)

    def _number_after(self, doc_id: int) -> int:
        return max(self._peek_next_id(), doc_id + 1)

    def _get_next_id(self) -> int:
        # Called by TinyDB's insert_multiple inside an update; ids are taken for good when the change is durable.
        next_id = self._draft_next_id or self._peek_next_id()
        self._draft_next_id = next_id + 1
        return next_id

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> None:
        journal = _journal(self)
        with journal.table_lock:
            self._draft_next_id = 0
            draft = _Draft(journal.documents.tables.get(self.name, {}))
            updater(draft)  # type: ignore[arg-type]  # TinyDB's updaters use it as the mapping it is
            change = draft.change(self.name)
            change.next = max([self._peek_next_id(), *(doc_id + 1 for doc_id in change.put)])
            if change.put or change.drop:
                journal.change_table(change)
        self.clear_cache()


class _Draft(MutableMapping[int, dict[str, Any]]):
    """A table while one operation works on it: documents are copied when looked at, changes are noted."""

    def __init__(self, stored: dict[int, bytes]) -> None:
        self._stored = stored
        self._seen: dict[int, dict[str, Any]] = {}
        self._gone: set[int] = set()

    def __getitem__(self, doc_id: int) -> dict[str, Any]:
        if doc_id in self._gone:
            raise KeyError(doc_id)
        if doc_id not in self._seen:
            document: dict[str, Any] = msgspec.json.decode(self._stored[doc_id])
            self._seen[doc_id] = document
        return self._seen[doc_id]

    def __setitem__(self, doc_id: int, document: dict[str, Any]) -> None:
        self._seen[doc_id] = document
        self._gone.discard(doc_id)

    def __delitem__(self, doc_id: int) -> None:
        if doc_id not in self:
            raise KeyError(doc_id)
        self._seen.pop(doc_id, None)
        if doc_id in self._stored:
            self._gone.add(doc_id)

    def __contains__(self, doc_id: object) -> bool:
        return doc_id not in self._gone and (doc_id in self._seen or doc_id in self._stored)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted((self._stored.keys() | self._seen.keys()) - self._gone))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def change(self, table: str) -> TableChange:
        put: dict[int, msgspec.Raw] = {}
        for doc_id, document in self._seen.items():
            raw = _encode(table, document)
            if self._stored.get(doc_id) != raw:
                put[int(doc_id)] = raw
        return TableChange(table, put, sorted(self._gone))


def _encode(table: str, document: dict[str, Any]) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(document))
    except (TypeError, ValueError) as error:
        raise JournalMisuse(f"A document of table {table!r} cannot be written as JSON: {error}.") from None


def _journal(table: Table) -> JournalFace:
    storage = table.storage
    assert isinstance(storage, JournalStorage)
    return storage.journal


class JournalDB(TinyDB):
    """A TinyDB over a journal; closing it closes nothing, the journal does that."""

    def __init__(self, journal: JournalFace) -> None:
        super().__init__(storage=lambda: JournalStorage(journal))

    def table(self, name: str, **options: Any) -> Table:
        known = self._tables.get(name)
        if known is None:
            kind = EventTable if name == EVENTS else DocumentTable
            known = self._tables[name] = kind(self.storage, name, **options)
        return known

    def drop_table(self, name: str) -> None:
        """Drop a named table.

        Raises:
            JournalMisuse: it is the table of the events.
        """
        if name == EVENTS:
            raise JournalMisuse("The events cannot be dropped; the journal forgets them when the hub has them.")
        storage = self.storage
        assert isinstance(storage, JournalStorage)
        self._tables.pop(name, None)
        if name in storage.journal.documents.tables:
            storage.journal.change_table(TableChange(name, gone=True))

    def drop_tables(self) -> None:
        """Drop all named tables, one after the other; the events stay."""
        for name in self.tables() - {EVENTS}:
            self.drop_table(name)
