"""One small statement in a file of its own, written in place: two slots in turn, so that one is always whole.

No bytes are allocated after the file was made, so it can still be written when the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from pathlib import Path
from typing import Any

import msgspec

_SLOT_BYTES = 512
_VERSION = 1
_HEAD = len(f"{0:08x} ")


class Note:
    """Reads and writes one statement; for one thread.

    The file holds two slots of 512 bytes: eight hex digits of CRC-32, a space, JSON with the version `v` and the turn
    `n`, and spaces to the end. The slot with the higher turn counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._turn = 0

    def read(self) -> dict[str, Any] | None:
        """Return the newest whole statement, None without one."""
        data = _read_own(self.path)
        found = [slot for start in (0, _SLOT_BYTES) if (slot := _parse(data[start : start + _SLOT_BYTES])) is not None]
        newest = max(found, key=lambda slot: int(slot["n"]), default=None)
        if newest is not None:
            self._turn = max(self._turn, int(newest["n"]))
        return newest

    def prepare(self) -> None:
        """Make the file and its blocks durable.

        Raises:
            OSError: the place cannot be written.
        """
        self.close()
        self.read()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "the file is somebody else's")
            if os.fstat(descriptor).st_size < 2 * _SLOT_BYTES:
                os.pwrite(descriptor, b" " * 2 * _SLOT_BYTES, 0)
                os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def write(self, values: dict[str, Any], *, sync: bool) -> None:
        """Put a statement in the place of the last one.

        Args:
            sync: wait until it is durable; otherwise the kernel writes it within about half a minute.

        Raises:
            OSError: the place cannot be written.
        """
        if self._descriptor is None:
            self.prepare()
        assert self._descriptor is not None
        turn = self._turn + 1
        body = msgspec.json.encode({"v": _VERSION, "n": turn, **values})
        slot = b"%08x %b" % (zlib.crc32(body), body)
        if len(slot) > _SLOT_BYTES:
            raise ValueError(f"A note has at most {_SLOT_BYTES} bytes; this one has {len(slot)}.")
        try:
            if not self._is_in_place():
                # The folder was removed or moved: nobody would find what is written here.
                self.prepare()
            os.pwrite(self._descriptor, slot.ljust(_SLOT_BYTES), turn % 2 * _SLOT_BYTES)
            if sync:
                os.fdatasync(self._descriptor)
        except OSError:
            self.close()
            raise
        self._turn = turn

    def _is_in_place(self) -> bool:
        assert self._descriptor is not None
        try:
            there, held = self.path.lstat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _read_own(path: Path) -> bytes:
    # In a folder that others may write too, a file of somebody else says nothing.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, 2 * _SLOT_BYTES, 0) if os.fstat(descriptor).st_uid == os.geteuid() else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _parse(slot: bytes) -> dict[str, Any] | None:
    body = slot[_HEAD:].rstrip(b" \0")
    try:
        if int(slot[: _HEAD - 1], 16) != zlib.crc32(body):
            return None
        values = msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, msgspec.MsgspecError):
        return None
    return values if values.get("v") == _VERSION and isinstance(values.get("n"), int) else None
