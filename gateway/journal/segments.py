"""Segment files: header, allocation, writing, and the index that a scan of one gives.

A segment is preallocated, written from front to back, and never touched again. It starts with the same header twice, at
0 and at 512, in two sectors; frames start at 1024. Header, all little-endian:

    magic 8s | format u16 | spare u16 | boot u32 | segment u64 | salt 8s | epoch 4s | first seq u64 | acked u64
    | prev 16s | wall ms u64 | tables from u64 | gateway length u8 | gateway 63s | crc32 u32

It repeats what the newest segment must know when all older ones are gone: watermark, chain value, last good time and
the oldest segment that still holds a change of a named table.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import BadRecord, JournalFull, JournalWriteFailed
from gateway.journal.frames import HEAD_BYTES, BadBytes, Frame, FrameKind, scan, seed_of

FORMAT_VERSION = 1
DATA_START = 1024
_COPY_BYTES = 512
_MAGIC = b"TGJOURNL"
_FIELDS = struct.Struct("<8sHHIQ8s4sQQ16sQQB63s")
_CRC = struct.Struct("<I")
_NAME = re.compile(r"segment-([0-9]{12})\.tgj")
_SPARE = "spare.tmp"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The header of one segment.

    Attributes:
        epoch: 4 bytes, 8 hex digits in events.
        first_seq: the number that the first event in this segment has or would have.
        acked: the watermark when the segment was created.
        prev: first 16 bytes of the SHA-256 of the event before `first_seq`, zeros for none.
        wall_ms: the latest trusted time known then, milliseconds since 1970, 0 for none.
        tables_from: the oldest segment that holds a live change of a named table, 0 for none.
    """

    number: int
    boot: int
    salt: bytes
    epoch: bytes
    first_seq: int
    acked: int
    prev: bytes
    wall_ms: int
    tables_from: int
    gateway: str

    @property
    def seed(self) -> int:
        return seed_of(self.salt, self.number)

    def pack(self) -> bytes:
        """Return both copies, DATA_START bytes."""
        name = self.gateway.encode()
        fields = _FIELDS.pack(
            _MAGIC,
            FORMAT_VERSION,
            0,
            self.boot,
            self.number,
            self.salt,
            self.epoch,
            self.first_seq,
            self.acked,
            self.prev,
            self.wall_ms,
            self.tables_from,
            len(name),
            name,
        )
        copy = fields + _CRC.pack(zlib.crc32(fields))
        return copy.ljust(_COPY_BYTES, b"\0") * 2


def parse_header(data: bytes, number: int) -> SegmentHeader | None:
    """Read the header from the first bytes of a segment file; None when both copies are damaged.

    Raises:
        BadRecord: the segment was written by a later version of this software.
    """
    for start in (0, _COPY_BYTES):
        fields = data[start : start + _FIELDS.size]
        crc = data[start + _FIELDS.size : start + _FIELDS.size + _CRC.size]
        if len(crc) < _CRC.size or _CRC.unpack(crc)[0] != zlib.crc32(fields):
            continue
        values = _FIELDS.unpack(fields)
        if values[0] != _MAGIC or values[4] != number:
            continue
        if values[1] != FORMAT_VERSION:
            raise BadRecord(
                f"Segment {number} has format {values[1]} and this software reads format {FORMAT_VERSION}; "
                "start the version that wrote it, or export the journal with that version."
            )
        _, _, _, boot, _, salt, epoch, first_seq, acked, prev, wall_ms, tables_from, length, name = values
        gateway = name[:length].decode(errors="replace")
        return SegmentHeader(number, boot, salt, epoch, first_seq, acked, prev, wall_ms, tables_from, gateway)
    return None


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"segment-{number:012d}.tgj"


def list_segments(directory: Path) -> list[int]:
    """Return the numbers of the segment files, oldest first."""
    return sorted(int(match[1]) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))


def sync_directory(directory: Path) -> None:
    """Make creations, renames and removals in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class SegmentIndex:
    """What one pass over a segment found; events lie at `offsets[seq - first_seq]`, 0 where none is readable.

    Attributes:
        end: after the last good frame.
        watermark: the highest watermark record, 0 for none.
        tables: payloads of table changes in their order.
        used_end: after the last byte that is not zero.
        events_end: after the event with the highest number.
    """

    header: SegmentHeader
    offsets: array[int] = field(default_factory=lambda: array("I"))
    end: int = DATA_START
    watermark: int = 0
    tables: list[bytes] = field(default_factory=list)
    bad: list[BadBytes] = field(default_factory=list)
    used_end: int = DATA_START
    events_end: int = DATA_START

    @property
    def first_seq(self) -> int:
        return self.header.first_seq

    @property
    def next_seq(self) -> int:
        """Return the number after the last readable event."""
        return self.header.first_seq + len(self.offsets)

    def add(self, frame: Frame) -> None:
        """Take in one event frame; of two with the same number the first counts."""
        place = frame.number - self.header.first_seq
        if place < 0:
            return
        if place > len(self.offsets):
            self.offsets.extend([0] * (place - len(self.offsets)))
        if place == len(self.offsets):
            self.offsets.append(frame.offset)
            self.events_end = frame.end
        elif not self.offsets[place]:
            self.offsets[place] = frame.offset


def index_segment(header: SegmentHeader, data: bytes, limit_seq: int | None = None) -> SegmentIndex:
    """Scan a whole segment file.

    Args:
        limit_seq: the first number of the next segment. What this segment holds from there on was never acknowledged
            and was written again over there.
    """
    index = SegmentIndex(header)
    for item in scan(data, header.seed, DATA_START):
        if isinstance(item, BadBytes):
            index.bad.append(item)
            index.used_end = item.end
            continue
        if item.kind is FrameKind.EVENT:
            # A number far ahead can only come from a writer gone wrong; it must not blow up the index.
            if (limit_seq is None or item.number < limit_seq) and item.number - index.next_seq < len(data):
                index.add(item)
        elif item.kind is FrameKind.WATERMARK:
            index.watermark = max(index.watermark, item.number)
        else:
            index.tables.append(data[item.offset + HEAD_BYTES : item.end])
        index.end = index.used_end = item.end
    return index


class SegmentWriter:
    """The one segment that grows.

    After an OSError from `write` or `sync` it must be given up with `abandon`: Linux marks pages clean when a sync
    failed, so that a second sync on the same descriptor says yes and means nothing.
    """

    def __init__(self, directory: Path, header: SegmentHeader, descriptor: int, size: int) -> None:
        self.header = header
        self.path = segment_path(directory, header.number)
        self.size = size
        self.end = DATA_START
        self._written = DATA_START
        self._descriptor = descriptor

    @property
    def room(self) -> int:
        return self.size - self.end

    def write(self, data: bytes) -> None:
        """Write after the last synced byte; durable after `sync`.

        Raises:
            OSError: the disk refused, or took only a part of it.
        """
        _write_all(self._descriptor, data, self.end)
        self._written = self.end + len(data)

    def sync(self) -> None:
        """Make everything written durable.

        Raises:
            OSError: the disk refused, or the file is no longer in its folder, where what was written would vanish with
                the last descriptor; nothing since the last sync may be relied on.
        """
        os.fdatasync(self._descriptor)
        held = os.fstat(self._descriptor)
        there = self.path.stat()
        if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            raise FileNotFoundError(errno.ENOENT, "the segment's file was replaced")
        self.end = self._written

    def abandon(self) -> None:
        """Abandon the segment after an error, without what was not synced."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.end)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def close(self, *, trim: bool) -> None:
        """Close; with `trim` the unused rest goes back to the disk."""
        try:
            if trim:
                os.ftruncate(self._descriptor, self.end)
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    if written != len(data):
        # A full disk shows as a short count first and as an error only with the next call.
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")


def allocate_spare(directory: Path, size: int) -> None:
    """Reserve the blocks of the segment to come, so that a full disk shows one segment early.

    Raises:
        OSError: usually ENOSPC; nothing is left behind.
    """
    path = directory / _SPARE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def spare_exists(directory: Path) -> bool:
    """Return whether a prepared segment lies ready; False in a folder that may not be entered."""
    try:
        return (directory / _SPARE).exists()
    except OSError:
        return False


def drop_spare(directory: Path) -> None:
    with contextlib.suppress(OSError):
        (directory / _SPARE).unlink(missing_ok=True)


def start_segment(directory: Path, header: SegmentHeader, size: int) -> SegmentWriter:
    """Turn the spare file into a segment: header synced first, then its name, then the folder.

    Raises:
        OSError: the disk refused; the spare file is gone.
    """
    spare = directory / _SPARE
    descriptor = os.open(spare, os.O_RDWR | os.O_CLOEXEC)
    try:
        writer = SegmentWriter(directory, header, descriptor, size)
        _write_all(descriptor, header.pack(), 0)
        os.fdatasync(descriptor)
        spare.rename(writer.path)
        sync_directory(directory)
    except OSError:
        os.close(descriptor)
        drop_spare(directory)
        with contextlib.suppress(OSError):
            segment_path(directory, header.number).unlink(missing_ok=True)
        raise
    return writer


def as_journal_error(error: OSError) -> JournalFull | JournalWriteFailed:
    """Turn what the disk said into what a caller of the journal must know."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return JournalFull("The disk is full; the event was not kept. Free space on the journal's disk.")
    if error.errno == errno.EROFS:
        return JournalWriteFailed(
            "The journal's file system is read-only; the event was not kept. Mount it writable, or replace the card if "
            "Linux made it so after errors."
        )
    return JournalWriteFailed(
        f"The disk refused to keep the event ({error.strerror or error}); check the card and its file system."
    )
