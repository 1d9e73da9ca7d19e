"""The folder of a journal and its lock, also when somebody removes it or its disk takes no writes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from pathlib import Path

from gateway.errors import JournalLocked

log = logging.getLogger(__name__)


class Folder:
    """One folder for one writing process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def claim(self) -> bool:
        """Make the folder where it is missing and lock it; tell whether it is another than before.

        A file system that is mounted read-only is locked too, where a lock file stands there already.

        Raises:
            JournalLocked: another process writes here.
            OSError: the folder cannot be made or locked now; try again later.
        """
        if self._is_ours():
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        place = self.path / "lock"
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            if error.errno != errno.EROFS or not place.exists():
                raise
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise JournalLocked(f"Another process writes the journal in {self.path}; stop it first.") from None
        except OSError:
            os.close(descriptor)
            raise
        self.release()
        self._lock = descriptor
        return True

    def _is_ours(self) -> bool:
        if self._lock is None:
            return False
        try:
            there, held = (self.path / "lock").stat(), os.fstat(self._lock)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        """Let the lock go; may be called twice."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None

    def free_bytes(self) -> int:
        """Return the free space where the folder is, or where it would be made."""
        for path in (self.path, *self.path.absolute().parents):
            with contextlib.suppress(OSError):
                space = os.statvfs(path)
                return space.f_bavail * space.f_frsize
        return 0
