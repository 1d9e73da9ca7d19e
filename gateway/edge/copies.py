"""Remembers cards that showed a sign of being a copy, for points that do not serve them.

A sign is found after the card has been served (readers.rc522.clones), so a point's policy holds from the card's next
tap at this gateway on. Copy and original have the same number: it needs a new card.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from tinydb.table import Document, Table

from gateway.cards.clones import Sign
from gateway.errors import RetryError

_DOCUMENT = 1
_MOST = 1000
_RECENT_READS = 8
_RECENT_SECONDS = 30.0
# Honest makers sell cards of this kind too.
_WEAK_SIGNS = frozenset({Sign.STATIC_NONCE})


@dataclass(frozen=True, slots=True)
class _Read:
    tail: str
    keys: tuple[bytes, ...]
    at: float


class Copies:
    """Callable from every bus thread; the card keys stand in the journal's table and outlast a restart.

    Args:
        table: the journal's table of this name.
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, table: Table, now: Callable[[], float]) -> None:
        self._table, self._now = table, now
        self._lock = threading.Lock()
        self._reads: dict[str, deque[_Read]] = {}
        self._keys: OrderedDict[bytes, None] = OrderedDict.fromkeys(_read(table))
        self._is_kept = True

    def was_read(self, reader: str, tail: str, keys: tuple[bytes, ...]) -> None:
        """Note a card that has been read; a sign found at it names the reader and the tail only."""
        self._reads.setdefault(reader, deque(maxlen=_RECENT_READS)).append(_Read(tail, keys, self._now()))

    def suspect(self, reader: str, sign: str, tail: str) -> None:
        """Note that a card which was read a moment ago showed a sign."""
        if sign in _WEAK_SIGNS:
            return
        since = self._now() - _RECENT_SECONDS
        found = [read for read in self._reads.get(reader, ()) if read.tail == tail and read.at >= since]
        if not found:
            return
        with self._lock:
            for key in found[-1].keys:
                self._keys[key] = None
                self._keys.move_to_end(key)
                self._is_kept = False
            while len(self._keys) > _MOST:
                self._keys.popitem(last=False)

    def holds(self, keys: tuple[bytes, ...]) -> bool:
        """Return whether a card, by any of its keys, showed a sign at this gateway."""
        return any(key in self._keys for key in keys)

    def tick(self) -> None:
        """Keep what was noted since the last call; not done on a bus thread, which would wait for the disk."""
        with self._lock:
            if self._is_kept:
                return
            keys = [key.hex() for key in self._keys]
            self._is_kept = True
        try:
            self._table.upsert(Document({"v": 1, "keys": keys}, doc_id=_DOCUMENT))
        except RetryError:
            with self._lock:
                self._is_kept = False


def _read(table: Table) -> list[bytes]:
    found = table.get(doc_id=_DOCUMENT)
    keys = found.get("keys") if isinstance(found, Document) else None
    known: list[bytes] = []
    for text in keys if isinstance(keys, list) else []:
        with contextlib.suppress(ValueError, TypeError):
            known.append(bytes.fromhex(text))
    return known[-_MOST:]
