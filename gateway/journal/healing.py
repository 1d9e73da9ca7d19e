"""What the journal does when its folder was removed, moved, or was not there at the start: claim it and go on."""

from __future__ import annotations

import errno
import logging

from gateway.errors import BadRecord, JournalLocked, JournalWriteFailed
from gateway.journal.catalog import Catalog
from gateway.journal.folder import Folder
from gateway.journal.recovery import State, recover
from gateway.journal.segments import drop_spare, list_segments
from gateway.journal.tail import Tail

log = logging.getLogger(__name__)

# What the disk itself says has its own sentence (segments.as_journal_error).
_PLAIN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Healing:
    """Runs on the writer's thread, before each new segment."""

    def __init__(self, folder: Folder, catalog: Catalog, state: State) -> None:
        self._folder, self._catalog, self._state = folder, catalog, state
        self._is_known = True
        self.tail: Tail | None = None

    def reclaim(self) -> bool:
        """Make sure that the folder is there and ours; tell whether it is another than before.

        Raises:
            JournalWriteFailed: somebody else's journal is in it.
            OSError: it cannot be made now; try again later.
        """
        try:
            is_new = self._folder.claim()
        except JournalLocked as error:
            raise JournalWriteFailed(str(error)) from None
        except OSError as error:
            if error.errno in _PLAIN:
                raise
            raise JournalWriteFailed(
                f"The journal's folder {self._folder.path} cannot be used ({error.strerror or error}); "
                "look at the disk, events are kept in memory until it can."
            ) from None
        if not is_new and self._is_known:
            return False
        self._is_known = False
        drop_spare(self._folder.path)
        self._look()
        self._is_known = True
        log.warning("the journal goes on in %s, which was gone", self._folder.path)
        return True

    def _look(self) -> None:
        """Compare what the folder holds now with what this process knows, and take it up."""
        state, found = self._state, self._read()
        path = self._folder.path
        assert self.tail is not None
        self.tail.last_number = max([self.tail.last_number, *list_segments(path)])
        if found is None:
            return
        is_unwritten = not state.head and not self._catalog.entries
        if found.gateway != state.gateway:
            raise JournalWriteFailed(f"The folder {path} holds the journal of {found.gateway!r} now; move it away.")
        if found.epoch != state.epoch and not is_unwritten:
            raise JournalWriteFailed(
                f"The folder {path} holds another journal than before; put the right one back, or start the gateway "
                "again to go on with this one."
            )
        if found.epoch == state.epoch and found.head > state.head:
            raise JournalWriteFailed(f"The folder {path} holds later events than this gateway wrote; start it again.")
        self._catalog.load()
        if found.epoch != state.epoch:
            state.take_over(found)
            state.boot, state.wall_ms = found.boot + 1, max(state.wall_ms, found.wall_ms)
            state.damage += found.damage

    def _read(self) -> State | None:
        there = Catalog(self._folder.path)
        try:
            there.load()
            return recover(there)
        except BadRecord as error:
            raise JournalWriteFailed(str(error)) from None
