"""A new epoch: every event after one number is written again under new numbers, at once or not at all.

Needed where the hub holds other events under the same numbers: an old image of the card, or a copy of it. The new
segments are written aside; the rename of their folder is the moment of the change, and what is left to do after it is
done by the next start if need be. Each event names in `was` the number it had first, so the hub counts it once.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import msgspec

from gateway.journal.catalog import Catalog
from gateway.journal.chain import Chain, link_of
from gateway.journal.frames import HEAD_BYTES, FrameKind
from gateway.journal.recovery import State
from gateway.journal.segments import DATA_START, list_segments, parse_header, segment_path, sync_directory
from gateway.journal.tail import RESERVE_BYTES, Limits, Tail

UNFINISHED, READY = "next", "next.ready"
_GROUP_RECORDS = 256
_GROUP_BYTES = 128 * 1024
_NO_QUOTA = 1 << 62
_Record = tuple[FrameKind, int, bytes]


def write_again(catalog: Catalog, state: State, limits: Limits, after: int, last_segment: int) -> None:
    """Write a new epoch that holds the events after a number, and make it the journal's on disk.

    Args:
        last_segment: the highest number that a segment of the folder has.

    Raises:
        JournalFull: there is no room for a second copy; the journal is as it was.
        OSError, JournalWriteFailed: the disk refused; the journal is as it was.
    """
    directory = catalog.directory
    aside = directory / UNFINISHED
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    fresh = State.fresh(state.gateway, boot=state.boot, wall_ms=state.wall_ms)
    # Two copies lie on the disk for a moment; the quota holds again as soon as the first is gone.
    tail = Tail(aside, Catalog(aside), fresh, Limits(limits.segment_bytes, _NO_QUOTA, limits.keep_seconds))
    tail.last_number = last_segment
    try:
        tail.roll()
        _copy_events(catalog, state, after, tail)
        _copy_tables(state, tail)
        tail.finish()
        sync_directory(aside)
        aside.rename(directory / READY)
        sync_directory(directory)
    except BaseException:
        tail.abandon()
        shutil.rmtree(aside, ignore_errors=True)
        raise
    finish_switch(directory)


def finish_switch(directory: Path) -> None:
    """Carry an epoch that is complete into the folder, and drop one that is not; nothing to do in most folders."""
    shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
    ready = directory / READY
    if not ready.is_dir():
        return
    epoch = next((found for number in list_segments(ready) if (found := _epoch(ready, number)) is not None), None)
    if epoch is not None:
        # What is of another epoch goes first: a folder with both would be read as one journal.
        for number in list_segments(directory):
            if _epoch(directory, number) != epoch:
                segment_path(directory, number).unlink()
        sync_directory(directory)
        for number in list_segments(ready):
            segment_path(ready, number).rename(segment_path(directory, number))
        sync_directory(directory)
    shutil.rmtree(ready)
    sync_directory(directory)


def _epoch(directory: Path, number: int) -> bytes | None:
    with contextlib.suppress(FileNotFoundError), segment_path(directory, number).open("rb") as file:
        header = parse_header(file.read(DATA_START), number)
        return header.epoch if header else None
    return None


def _copy_events(catalog: Catalog, state: State, after: int, tail: Tail) -> None:
    fresh, group, size = tail.state, list[_Record](), 0
    old_epoch, new_epoch = state.epoch.hex(), fresh.epoch.hex()
    seq, link = fresh.tip
    first = max(after + 1, catalog.oldest_seq)
    for old_seq, raw in Chain(catalog).events(first, state.head):
        seq += 1
        renamed = _renamed(raw, new_epoch, seq, link, {"epoch": old_epoch, "seq": old_seq})
        link = link_of(renamed)
        if group and (len(group) >= _GROUP_RECORDS or size + len(renamed) > _GROUP_BYTES or not tail.fits(size)):
            _write(tail, group)
            group, size = [], 0
        group.append((FrameKind.EVENT, seq, renamed))
        size += HEAD_BYTES + len(renamed)
    _write(tail, group)


def _renamed(raw: bytes, epoch: str, seq: int, link: bytes, was: dict[str, Any]) -> bytes:
    # As a mapping, so that fields of a later version stay what they are.
    event: dict[str, Any] = msgspec.json.decode(raw)
    event |= {"epoch": epoch, "seq": seq, "prev": link.hex()}
    # Who was moved before keeps its first number: that is the one by which the hub knows it again.
    event.setdefault("was", was)
    return msgspec.json.encode(event)


def _copy_tables(state: State, tail: Tail) -> None:
    for change in state.documents.snapshot(_NO_QUOTA):
        _write(tail, [(FrameKind.TABLE, tail.state.head, change)])
        assert tail.segment is not None
        tail.state.documents.apply(change, tail.segment.header.number)


def _write(tail: Tail, group: list[_Record]) -> None:
    if not group:
        return
    size = sum(HEAD_BYTES + len(payload) for _, _, payload in group)
    if not tail.fits(size):
        if size + HEAD_BYTES + RESERVE_BYTES + DATA_START > tail.segment_bytes and len(group) > 1:
            middle = len(group) // 2
            _write(tail, group[:middle])
            _write(tail, group[middle:])
            return
        tail.roll()
    tail.write(group)
    kind, number, payload = group[-1]
    if kind is FrameKind.EVENT:
        tail.state.tip = number, link_of(payload)
