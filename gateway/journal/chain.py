"""The hash chain over the events, and what stands in the place of an event that cannot be read any more."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.access.event import FIRST_PREV, Event, decode_event, encode_event
from gateway.errors import BadMessage
from gateway.journal.catalog import Catalog, Entry
from gateway.journal.segments import SegmentHeader

NO_LINK = bytes(16)
_BOOT_POINTS, _SPACED_POINTS = 40, 16


def link_of(raw: bytes) -> bytes:
    """Return what the next event carries as `prev`: the first 16 bytes of SHA-256 over the stored bytes."""
    return hashlib.sha256(raw).digest()[:16]


class Chain:
    """Reads events by number with the lost ones replaced: no holes, and the chain goes on after a loss."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def link_after(self, seq: int) -> bytes:
        """Return what event `seq` + 1 carries as `prev`."""
        return link_of(self.raw(seq)) if seq else NO_LINK

    def links_after(self, seq: int) -> frozenset[str]:
        """Return what event `seq` + 1 may carry as `prev`, as hex; empty where the folder no longer knows.

        There are two after a damaged event: the link over the bytes it had, and the one over those in its place.
        """
        if not seq:
            return frozenset({FIRST_PREV})
        found: set[str] = set()
        following = next(self._catalog.events(seq + 1, seq + 1), (0, None))[1]
        if following is not None:
            with contextlib.suppress(BadMessage):
                found.add(decode_event(following).prev)
        if seq >= self._catalog.oldest_seq:
            found.add(link_of(self.raw(seq)).hex())
        return frozenset(found)

    def events(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Return number and bytes of each event from `first` to `last`."""
        before: bytes | None = None
        for seq, stored in self._catalog.events(first, last):
            raw = stored
            if raw is None:
                header = self._header(seq)
                if header is None:
                    return
                if before is None and seq > header.first_seq:
                    before = self.raw(seq - 1)
                raw = lost_event(header, seq, before if seq > header.first_seq else None)
            yield seq, raw
            before = raw

    def raw(self, seq: int) -> bytes:
        """Return the bytes of one event, or of the one that says that it is lost.

        The folder must hold at least one segment.
        """
        header = self._header(seq)
        assert header is not None
        known, before = seq, next(self._catalog.events(seq, seq))[1]
        while before is None and known > header.first_seq:
            known -= 1
            before = next(self._catalog.events(known, known))[1]
        if before is None:
            known -= 1
        for lost in range(known + 1, seq + 1):
            before = lost_event(header, lost, before)
        assert before is not None
        return before

    def _header(self, seq: int) -> SegmentHeader | None:
        entries: list[Entry] = self._catalog.entries
        for entry in reversed(entries):
            if entry.header.first_seq <= seq:
                return entry.header
        return entries[0].header if entries else None


def choose_points(
    chain: Chain, starts: list[tuple[int, str]], acked: int, tip: tuple[int, str]
) -> list[tuple[int, str]]:
    """Return places of the chain by which another can find how far it shares this history, newest first.

    Args:
        starts: the place before the first event of each boot, newest first.
        tip: the place of the head.
    """
    points = dict([tip])
    waiting = [point for point in starts if point[0] >= acked]
    # The boot in which the watermark lies is not wholly acknowledged either.
    points.update([*waiting, *starts[len(waiting) : len(waiting) + 1]][:_BOOT_POINTS])
    spaced = (tip[0] - (1 << power) for power in range(_SPACED_POINTS))
    for seq in (*(seq for seq in spaced if seq > acked), acked):
        points.setdefault(seq, min(chain.links_after(seq), default=""))
    return sorted(((seq, link) for seq, link in points.items() if link), reverse=True)


def lost_event(header: SegmentHeader, seq: int, before: bytes | None) -> bytes:
    """Make the event that stands in the place of one that cannot be read any more.

    It is the same each time it is made and carries the number of the lost one, so the hub sees no hole and one honest
    entry instead. Its time is that of the event before it, or of the segment.
    """
    at = text_of_ms(header.wall_ms)
    prev = header.prev.hex() if seq == header.first_seq else FIRST_PREV
    if before:
        prev = link_of(before).hex()
        # A neighbour that is whole but of no known form leaves the segment's time.
        with contextlib.suppress(BadMessage):
            at = decode_event(before).at
    return encode_event(
        Event(
            gw=header.gateway,
            epoch=header.epoch.hex(),
            seq=seq,
            boot=header.boot,
            at=at,
            clock="free",
            up=0.0,
            kind="system",
            system={"what": "event_lost", "why": "its record on the card cannot be read"},
            prev=prev,
        )
    )


def text_of_ms(wall_ms: int) -> str:
    """Write milliseconds since 1970 as the `at` of an event."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def trusted_ms(event: Event) -> int:
    """Return the time of an event in milliseconds since 1970, 0 when its clock was running free."""
    if event.clock == "free":
        return 0
    try:
        return int(datetime.fromisoformat(event.at).timestamp() * 1000)
    except ValueError:
        return 0
