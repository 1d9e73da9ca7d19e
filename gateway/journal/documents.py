"""Named tables: small sets of documents beside the events, kept as changes in the same segments.

One TinyDB operation is one change is one frame: it happened as a whole or not at all. The documents live in memory as
their JSON, so that nobody can alter a stored one by altering what a query gave. Before a segment goes, what it alone
holds of a table is written again as a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

MAX_CHANGE_BYTES = 48 * 1024


class TableChange(msgspec.Struct, omit_defaults=True):
    """One change of one table.

    Attributes:
        put: documents by id, new or in place of an old one.
        drop: ids of documents that are gone.
        next: the id of the next new document; it only rises, so that no id is given twice.
        gone: True when the table itself was dropped.
    """

    table: str
    put: dict[int, msgspec.Raw] = {}
    drop: list[int] = []
    next: int = 1
    gone: bool = False


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(TableChange)


def encode_change(change: TableChange) -> bytes:
    return _ENCODER.encode(change)


class Documents:
    """All named tables; `oldest` names the first segment that a table still needs."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, bytes]] = {}
        self.next_ids: dict[str, int] = {}
        self.oldest: dict[str, int] = {}

    def replace(self, other: Documents) -> None:
        """Become what another reading of the folder found."""
        self.tables, self.next_ids, self.oldest = other.tables, other.next_ids, other.oldest

    def apply(self, payload: bytes, segment: int) -> None:
        """Take in a change that is durable in a segment."""
        change = _DECODER.decode(payload)
        name = change.table
        self.next_ids[name] = max(self.next_ids.get(name, 1), change.next)
        self.oldest.setdefault(name, segment)
        if change.gone:
            # The name stays in `oldest`: until its segments are gone the scan must still meet this change.
            self.tables.pop(name, None)
            return
        table = self.tables.setdefault(name, {})
        for doc_id, raw in change.put.items():
            table[doc_id] = bytes(raw)
        for doc_id in change.drop:
            table.pop(doc_id, None)

    @property
    def first_segment(self) -> int:
        """Return the oldest segment that any table needs, 0 for none."""
        return min(self.oldest.values(), default=0)

    def snapshot(self, up_to: int) -> Iterator[bytes]:
        """Return the changes that make the segments up to a number needless for every table.

        Older segments go first, so a document that was dropped cannot come back: its put goes before its drop does.
        """
        for name in [name for name, oldest in self.oldest.items() if oldest <= up_to]:
            next_id = self.next_ids.get(name, 1)
            if name not in self.tables:
                continue
            part, size = TableChange(name, next=next_id), 0
            for doc_id, raw in self.tables[name].items():
                if part.put and size + len(raw) > MAX_CHANGE_BYTES // 2:
                    yield encode_change(part)
                    part, size = TableChange(name, next=next_id), 0
                part.put[doc_id] = msgspec.Raw(raw)
                size += len(raw)
            yield encode_change(part)

    def moved(self, up_to: int, segment: int) -> None:
        """Note that a snapshot stands in `segment`, so nothing up to `up_to` is needed."""
        for name, oldest in list(self.oldest.items()):
            if oldest > up_to:
                continue
            if name in self.tables:
                self.oldest[name] = segment
            else:
                # A dropped table: its puts go with these segments, so nothing can bring it back.
                del self.oldest[name]
                self.next_ids.pop(name, None)
