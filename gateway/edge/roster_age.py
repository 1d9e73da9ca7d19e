"""How long ago the hub last confirmed the roster in force, and the newest generation ever in force here.

Both are stored in the journal, so that an old roster file put back on the card is detected and a gateway that lost its
hub knows for how long. Age counts while the machine is off only as far as the clock can tell.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from tinydb.table import Document, Table

from gateway.errors import RetryError

_DOCUMENT = 1
# Limits how often a confirmation is written to the memory card.
_KEEP_SECONDS = 3600.0


class RosterAge:
    """Remembers confirmations; callable from any thread.

    Args:
        table: the journal's table of this name.
        now: the best known time, as decisions use it.
    """

    def __init__(self, table: Table, now: Callable[[], datetime]) -> None:
        self._table, self._now = table, now
        self._lock = threading.Lock()
        kept = _read(table)
        self.floor: int = kept[0]
        self._confirmed: datetime | None = kept[1]
        self._kept_at: datetime | None = self._confirmed

    def put_in_force(self, version: int) -> None:
        """Note that a generation came into force; it came from the hub just now."""
        with self._lock:
            self.floor = max(self.floor, version)
            self._confirmed = self._now()
            self._keep()

    def confirm(self) -> None:
        """Note that the hub, which is there, still has the generation in force as its newest."""
        with self._lock:
            self._confirmed = self._now()
            if self._kept_at is None or (self._confirmed - self._kept_at).total_seconds() > _KEEP_SECONDS:
                self._keep()

    def seconds(self) -> float | None:
        """Return the seconds since the last confirmation, None before the first."""
        confirmed = self._confirmed
        return None if confirmed is None else max(0.0, (self._now() - confirmed).total_seconds())

    def _keep(self) -> None:
        assert self._confirmed is not None
        self._kept_at = self._confirmed
        document = {"v": 1, "floor": self.floor, "confirmed": self._confirmed.astimezone(UTC).isoformat()}
        # Written at the next turn if the disk refuses it now.
        with contextlib.suppress(RetryError):
            self._table.upsert(Document(document, doc_id=_DOCUMENT))


def _read(table: Table) -> tuple[int, datetime | None]:
    found = table.get(doc_id=_DOCUMENT)
    if not isinstance(found, Document):
        return 0, None
    try:
        return int(found["floor"]), datetime.fromisoformat(found["confirmed"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return 0, None
