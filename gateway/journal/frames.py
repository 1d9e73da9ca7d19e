"""How one record lies in a segment, how to cut records out of bytes, and how to find the next good one after damage.

    magic u32 | crc32 u32 | kind u8, length u24 | number u64 | payload

All little-endian. The CRC covers everything after itself and starts from the segment's seed, so that a record of
another segment or of another journal is never taken for one of this. Kind 0 is never written: a preallocated segment
reads as zeros. The magic holds bytes that cannot stand next to each other in UTF-8, so no JSON payload contains it.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x9eTG\xf1"
HEAD = struct.Struct("<4sIIQ")
HEAD_BYTES = HEAD.size
_BODY = struct.Struct("<IQ")
_CRC = struct.Struct("<I")
MAX_PAYLOAD_BYTES = (1 << 24) - 1
_KIND_SHIFT = 24
_CRC_END = 8


class FrameKind(enum.IntEnum):
    """What a frame holds, and what its number means; stored, so never renumbered."""

    EVENT = 1
    """The bytes of one event; the number is its sequence number."""
    WATERMARK = 2
    """No payload; the number is the last event that the hub has committed without a gap below."""
    TABLE = 3
    """One change of one named table, as JSON; the number is that of the change."""


_KINDS = frozenset(int(kind) for kind in FrameKind)


def seed_of(salt: bytes, segment: int) -> int:
    """Return the CRC start value of a segment from the journal's salt and the segment's number."""
    return zlib.crc32(segment.to_bytes(8, "little"), zlib.crc32(salt))


def pack_frame(seed: int, kind: FrameKind, number: int, payload: bytes) -> bytes:
    """Build the bytes of one frame; the payload has at most MAX_PAYLOAD_BYTES."""
    body = _BODY.pack(kind << _KIND_SHIFT | len(payload), number) + payload
    return MAGIC + _CRC.pack(zlib.crc32(body, seed)) + body


@dataclass(frozen=True, slots=True)
class Frame:
    """One good frame, from `offset` up to `end` of the scanned bytes; the payload starts HEAD_BYTES after `offset`."""

    kind: FrameKind
    number: int
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class BadBytes:
    """Bytes that are no frame, from `offset` up to `end`.

    Attributes:
        heads: offset, kind and number of each frame head that can still be read in them. No good CRC covers such a
            head, so this is a hint and no fact.
        last: True when no good frame follows.
    """

    offset: int
    end: int
    heads: tuple[tuple[int, FrameKind, int], ...]
    last: bool


def frame_at(data: bytes | memoryview, seed: int, offset: int) -> Frame | None:
    """Read the frame at a place, None when there is no whole and undamaged one."""
    if offset + HEAD_BYTES > len(data):
        return None
    magic, crc, word, number = HEAD.unpack_from(data, offset)
    kind = word >> _KIND_SHIFT
    end = offset + HEAD_BYTES + (word & MAX_PAYLOAD_BYTES)
    if magic != MAGIC or kind not in _KINDS or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[offset + _CRC_END : end], seed) != crc:
        return None
    return Frame(FrameKind(kind), number, offset, end)


def scan(data: bytes, seed: int, start: int) -> Iterator[Frame | BadBytes]:
    """Walk the frames from `start`; damage is given as BadBytes and the walk goes on after it.

    Zeros up to the end of the data are the unused rest of a segment and give nothing.
    """
    view = memoryview(data)
    offset = start
    while offset < len(data):
        frame = frame_at(view, seed, offset)
        if frame:
            yield frame
            offset = frame.end
            continue
        used_end = _used_end(data, offset)
        if used_end == offset:
            return
        following = _next_frame(data, view, seed, offset + 1)
        end = following.offset if following else used_end
        yield BadBytes(offset, end, _heads(data, offset, end), last=following is None)
        if following is None:
            return
        offset = end


def _used_end(data: bytes, offset: int) -> int:
    # rstrip would copy the whole segment; looking at blocks from the back does not.
    end = len(data)
    while end > offset:
        block = data[max(offset, end - 65536) : end]
        kept = len(block.rstrip(b"\0"))
        if kept:
            return end - len(block) + kept
        end -= len(block)
    return offset


def _next_frame(data: bytes, view: memoryview, seed: int, offset: int) -> Frame | None:
    while (offset := data.find(MAGIC, offset)) >= 0:
        if frame := frame_at(view, seed, offset):
            return frame
        offset += 1
    return None


def _heads(data: bytes, offset: int, end: int) -> tuple[tuple[int, FrameKind, int], ...]:
    found: list[tuple[int, FrameKind, int]] = []
    while 0 <= (offset := data.find(MAGIC, offset, end)) <= len(data) - HEAD_BYTES:
        _, _, word, number = HEAD.unpack_from(data, offset)
        if word >> _KIND_SHIFT in _KINDS:
            found.append((offset, FrameKind(word >> _KIND_SHIFT), number))
        offset += 1
    return tuple(found)
