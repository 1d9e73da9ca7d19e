"""The roster in force: one file, memory-mapped and looked up by bisection.

Nothing is copied to the heap, so 100,000 cards cost page cache only, and a new generation is one reference swapped.
"""

from __future__ import annotations

import mmap
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.access.people import EVERY_POINT, CardEntry, PointRules
from gateway.access.schedule import Calendar
from gateway.cards.identity import CARD_KEY_BYTES
from gateway.errors import BadRoster
from gateway.roster.actions import unpack_actions
from gateway.roster.file import (
    RECORD,
    check_records,
    decode_meta,
    split,
    unpack_calendar,
    unpack_created,
    unpack_points,
    unpack_record,
    unpack_zone,
)
from gateway.roster.signing import Trust

_MOST_PROJECTIONS = 64


class Snapshot:
    """One verified generation; keeps access.people.Roster and may be read from any thread.

    Raises:
        BadRoster: the bytes are torn, unsigned, of another site or out of order.
    """

    def __init__(self, raw: bytes | mmap.mmap, trust: Trust, site: str) -> None:
        parts = split(memoryview(raw))
        trust.check(parts.signed, parts.seal)
        meta = decode_meta(parts)
        if meta.site != site:
            raise BadRoster(f"This roster is for site {meta.site!r}, this gateway belongs to {site!r}.")
        self._raw = raw  # keeps the mapping alive as long as the view below
        self._records = parts.records
        if not meta.projections or len(meta.projections) > _MOST_PROJECTIONS:
            raise BadRoster("The roster names no card number projection, or more than there are.")
        self._group_sets = [frozenset(names) for names in meta.group_sets]
        self._points = unpack_points(meta)
        self.calendar: Calendar = unpack_calendar(meta)
        self.projections = tuple(meta.projections)
        self.version = parts.version
        self.count = parts.count
        self.created: datetime = unpack_created(meta)
        self.zone: ZoneInfo | None = unpack_zone(meta)
        self.actions = unpack_actions(meta.actions)

    @classmethod
    def open(cls, path: Path, trust: Trust, site: str) -> Snapshot:
        """Map and verify a file.

        Raises:
            BadRoster: see the class; also when the file is missing or empty.
        """
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadRoster(f"The roster file {path.name} cannot be read ({error}).") from None
        return cls(mapped, trust, site)

    def check(self) -> None:
        """Check every record, before the roster is put in force for the first time; about 40 ms for 100,000 cards.

        Raises:
            BadRoster: a record is not as it must be.
        """
        check_records(split(memoryview(self._raw)), len(self._group_sets))

    def find(self, key: bytes) -> CardEntry | None:
        """Look up a card by its 16-byte key."""
        records, low, high = self._records, 0, self.count
        while low < high:
            middle = (low + high) >> 1
            at = middle << 5
            found = bytes(records[at : at + CARD_KEY_BYTES])
            if found < key:
                low = middle + 1
            elif found > key:
                high = middle
            else:
                try:
                    return unpack_record(records[at : at + RECORD.size], self._group_sets)
                except BadRoster:
                    # install() lets no such record in; a card that cannot be read is an unknown one.
                    return None
        return None

    def point(self, name: str) -> PointRules | None:
        return self._points.get(name) or self._points.get(EVERY_POINT)

    @property
    def records(self) -> memoryview:
        """Return the packed records, in key order."""
        return self._records
