"""What a journal folder says about itself when it is opened: head, watermark, chain, tables, damage.

A torn tail and a damaged last record look alike, so the rule is the careful one: a number that may have been given
away is never given again. When the bytes after the last good record show that an event was being written, its number
counts as used and the event as lost (chain.lost_event).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Self

from gateway.access.event import decode_event
from gateway.errors import BadMessage
from gateway.journal.catalog import Catalog, Damage, missing_ranges
from gateway.journal.chain import NO_LINK, Chain, trusted_ms
from gateway.journal.documents import Documents
from gateway.journal.frames import BadBytes, FrameKind
from gateway.journal.segments import DATA_START

MAX_GROUP = 512
_LOOK_BACK_EVENTS = 64
# An anchor that names a number further ahead is not believed: each would be reported as a lost event.
_MOST_CUT = 1_000_000
_LEAST_EVENT_BYTES = 128
_USUAL_EVENT_BYTES = 400


@dataclass(slots=True)
class State:
    """Where a journal stands.

    Attributes:
        tip: the last number given away, and what the next event must carry as `prev`; one value, so that other
            threads never see half of a step.
        wall_ms: the latest trusted time known, milliseconds since 1970.
        cut: the newest events, which were durable by the anchor's word and are gone; None when all are there.
    """

    epoch: bytes
    salt: bytes
    gateway: str
    boot: int
    tip: tuple[int, bytes]
    acked: int
    wall_ms: int
    documents: Documents
    cut: tuple[int, int] | None = None
    damage: list[Damage] = field(default_factory=list)

    @classmethod
    def fresh(cls, gateway: str, *, boot: int = 1, wall_ms: int = 0) -> Self:
        """Return where a journal without any record stands, in an epoch of its own."""
        return cls(secrets.token_bytes(4), secrets.token_bytes(8), gateway, boot, (0, NO_LINK), 0, wall_ms, Documents())

    def take_over(self, found: State) -> None:
        """Go on where another state of the same gateway stands: its epoch, numbers and tables."""
        self.epoch, self.salt, self.tip, self.acked = found.epoch, found.salt, found.tip, found.acked
        self.documents.replace(found.documents)

    @property
    def head(self) -> int:
        return self.tip[0]

    @property
    def link(self) -> bytes:
        return self.tip[1]


def recover(catalog: Catalog) -> State | None:
    """Find out where a loaded catalog stands; None when it holds no segment that can be read.

    Scans from the newest segment back to the first that holds an event, and the segments that tables need.
    """
    if not catalog.entries:
        return None
    newest = catalog.entries[-1].header
    acked = newest.acked
    tables_from = newest.tables_from
    place = len(catalog.entries)
    while place:
        place -= 1
        index = catalog.index_of(place)
        acked = max(acked, index.watermark)
        if index.tables:
            tables_from = min(tables_from or newest.number, catalog.entries[place].number)
        if index.offsets or index.bad:
            break
    documents = Documents()
    for table_place, entry in enumerate(catalog.entries):
        if tables_from and entry.number >= tables_from:
            for payload in catalog.index_of(table_place).tables:
                documents.apply(payload, entry.number)
    head = max(_head(catalog, place), acked)
    cut = _cut(catalog, max(catalog.index_of(place).next_seq, newest.first_seq) - 1)
    if cut is not None and cut[1] >= head:
        # Numbers that were given away are not given again, and the chain goes on from the bytes that are gone.
        assert catalog.anchored is not None
        head, link = cut[1], bytes.fromhex(catalog.anchored.link)
    else:
        link = Chain(catalog).link_after(head) if head >= catalog.oldest_seq else newest.prev if head else NO_LINK
    state = State(
        epoch=newest.epoch,
        salt=newest.salt,
        gateway=newest.gateway,
        boot=max(entry.header.boot for entry in catalog.entries),
        tip=(head, link),
        acked=acked,
        wall_ms=max(newest.wall_ms, _last_trusted_ms(catalog, place)),
        documents=documents,
        cut=cut,
    )
    for looked_at in range(place, len(catalog.entries)):
        state.damage += damage_of(catalog, looked_at, head + 1)
    return state


def _cut(catalog: Catalog, last: int) -> tuple[int, int] | None:
    anchored = catalog.anchored
    if anchored is None or anchored.epoch != catalog.entries[-1].header.epoch.hex():
        return None
    return (last + 1, anchored.head) if last < anchored.head <= last + _MOST_CUT else None


def _head(catalog: Catalog, place: int) -> int:
    if place + 1 < len(catalog.entries):
        # The segments after this one hold nothing; the newest knows what was given away, lost numbers included.
        return catalog.entries[-1].header.first_seq - 1
    index = catalog.index_of(place)
    head = index.next_seq - 1
    tail = [bad for bad in index.bad if bad.offset >= index.events_end]
    if not tail:
        return head
    mean_bytes = (index.events_end - DATA_START) // len(index.offsets) if index.offsets else _USUAL_EVENT_BYTES
    return _last_begun(tail, index.used_end, head, max(mean_bytes, _LEAST_EVENT_BYTES))


def _last_begun(tail: list[BadBytes], used_end: int, head: int, mean_bytes: int) -> int:
    # A head's number is believed when that many events could lie before it in the torn bytes; where no head is left,
    # the room says how many there may have been, a quarter of one more or less.
    start = tail[0].offset
    heads = [head for bad in tail for head in bad.heads]
    begun = [
        number
        for offset, kind, number in heads
        if kind is FrameKind.EVENT and head < number <= head + 1 + (offset - start) // _LEAST_EVENT_BYTES
    ]
    first_kind = next((kind for offset, kind, _ in heads if offset == start), FrameKind.EVENT)
    if first_kind is not FrameKind.EVENT and not begun:
        return head
    by_room = -((start - used_end + mean_bytes // 4) // mean_bytes)
    return max([head + max(by_room, 1), *begun])


def _last_trusted_ms(catalog: Catalog, place: int) -> int:
    index = catalog.index_of(place)
    last = index.next_seq - 1
    for _, raw in reversed(list(catalog.events(max(index.first_seq, last - _LOOK_BACK_EVENTS), last))):
        try:
            wall_ms = trusted_ms(decode_event(raw)) if raw else 0
        except BadMessage:
            continue
        if wall_ms:
            return wall_ms
    return 0


def damage_of(catalog: Catalog, place: int, next_seq: int) -> list[Damage]:
    """Name what is wrong in one segment.

    Args:
        next_seq: the number after the last one given away, which ends the newest segment.
    """
    entry = catalog.entries[place]
    index = catalog.index_of(place)
    end_seq = catalog.end_seq(place)
    missing = missing_ranges(index, next_seq if end_seq is None else end_seq)
    found: list[Damage] = []
    if entry.rebuilt:
        text = f"the header of segment {entry.number} is damaged and was rebuilt from its neighbours"
        found.append(Damage(entry.number, 0, 1024, (), torn=False, what=text))
    for number, bad in enumerate(index.bad):
        text = f"{bad.end - bad.offset} bytes of segment {entry.number} from {bad.offset} are no record"
        if bad.last:
            text += "; they were being written when the power failed or the card gave up"
        found.append(Damage(entry.number, bad.offset, bad.end, missing if number == 0 else (), bad.last, text))
    if missing and not index.bad:
        # What is left of a torn tail after the writer cut it; or somebody else cut the file.
        at_end = missing[-1][0] == index.next_seq
        text = f"segment {entry.number} ends before events that had been begun"
        found.append(Damage(entry.number, index.end, entry.size, missing, torn=at_end, what=text))
    return found
