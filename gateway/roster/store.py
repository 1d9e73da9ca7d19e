"""The generations on disk: the current one, the one before, and the swap between them.

A roster is only put in force after it was verified as a whole. A failed verification leaves what was there; it never
leaves nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from gateway.errors import BadRoster
from gateway.roster.signing import Trust
from gateway.roster.snapshot import Snapshot

log = logging.getLogger(__name__)

CURRENT, PREVIOUS, INCOMING = "current.roster", "previous.roster", "incoming.roster"


class RosterStore:
    """The roster folder of one gateway; `current` is read by every bus thread and replaced as one reference.

    Attributes:
        fault: what is wrong with the files on disk, one sentence.
        was_put_back: nothing is in force, because an old file was put back.
    """

    def __init__(self, directory: Path, trust: Trust, site: str) -> None:
        self._directory = directory
        self.trust = trust
        self.site = site
        self.current: Snapshot | None = None
        self.fault: str | None = None
        self.was_put_back = False

    def load(self, floor: int = 0) -> Snapshot | None:
        """Put the newest good generation on disk in force; None when there is none, with `fault` saying why.

        Args:
            floor: the newest generation that was ever in force here. Where the current file is good and older, somebody
                put it back: cards that were lost since would pass again, so nothing older than the floor is used. Where
                it is damaged, the generation before it is used and said to be.
        """
        # A folder that cannot be made may still hold a roster; one that is not there has none.
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
        for name in (CURRENT, PREVIOUS):
            path = self._directory / name
            try:
                if not os.path.lexists(path):
                    continue
                found = Snapshot.open(path, self.trust, self.site)
            except (BadRoster, OSError) as error:
                self.fault = str(error)
                log.warning("roster file %s is not used: %s", name, error)
                continue
            if found.version < floor and (name == CURRENT or self.was_put_back):
                self.was_put_back = True
                self.fault = (
                    f"Roster {found.version} on disk is older than {floor}, which was in force here: an old file was "
                    "put back. It is not used; the hub is asked for the newest."
                )
                log.error("%s", self.fault)
                continue
            self.current = found
            break
        self.was_put_back = self.was_put_back and self.current is None
        return self.current

    def raw(self) -> bytes | None:
        """Return the bytes of the generation in force, from which a delta starts."""
        if self.current is None:
            return None
        for name in (CURRENT, PREVIOUS):
            with contextlib.suppress(OSError, BadRoster):
                raw = (self._directory / name).read_bytes()
                if Snapshot(raw, self.trust, self.site).version == self.current.version:
                    return raw
        return None

    def install(self, raw: bytes) -> Snapshot:
        """Verify a generation, make it durable and put it in force.

        Where the disk refuses it, it is in force from memory, and `fault` says that it will not outlive this start.

        Raises:
            BadRoster: it does not verify or is not newer; the one in force stays.
        """
        fresh = Snapshot(raw, self.trust, self.site)
        fresh.check()
        if self.current is not None and fresh.version <= self.current.version:
            raise BadRoster(f"Roster {fresh.version} is not newer than {self.current.version}, which is in force.")
        try:
            fresh, self.fault = self._keep(raw), None
        except OSError as error:
            self.fault = (
                f"Roster {fresh.version} is in force from memory only, the disk refused it "
                f"({error.strerror or error}); after a restart it has to come from the hub again."
            )
            log.error("%s", self.fault)  # noqa: TRY400  # the sentence says it all
        self.current, self.was_put_back = fresh, False
        return fresh

    def _keep(self, raw: bytes) -> Snapshot:
        incoming, current = self._directory / INCOMING, self._directory / CURRENT
        self._directory.mkdir(parents=True, exist_ok=True)
        with incoming.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if self.current is not None and current.exists() and self.fault is None:
            # A second name for the good file first, so that there is no moment without one.
            spare = self._directory / (PREVIOUS + ".new")
            spare.unlink(missing_ok=True)
            os.link(current, spare)
            spare.replace(self._directory / PREVIOUS)
        incoming.replace(current)
        _sync_folder(self._directory)
        return Snapshot.open(current, self.trust, self.site)


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
