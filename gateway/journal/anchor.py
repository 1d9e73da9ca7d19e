"""Names the newest event outside the segment that holds it, so that a cut of the newest records does not pass unseen.

Written after the event's own sync and never synced by itself: it may lie behind after a power cut, and never ahead of
what was durable.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from gateway.journal.notes import Note

log = logging.getLogger(__name__)

PLACE = "anchor.tgj"
_LINK = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Anchored:
    """What the anchor says: event `head` of an epoch was durable; `link` is what the event after it carries."""

    epoch: str
    head: int
    link: str


class Anchor:
    """The writing end; belongs to the writer's thread."""

    def __init__(self, directory: Path) -> None:
        self._note = Note(directory / PLACE)
        self._is_failing = False

    def set(self, epoch: str, head: int, link: bytes) -> None:
        """Note the newest durable event; a disk that refuses costs the anchor and nothing else."""
        try:
            self._note.write({"epoch": epoch, "head": head, "link": link.hex()}, sync=False)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning("the journal's anchor could not be written: %s", error.strerror or error)
            self._is_failing = True

    def close(self) -> None:
        self._note.close()


def read_anchor(directory: Path) -> Anchored | None:
    """Return what the anchor of a folder says, None without one."""
    values = Note(directory / PLACE).read()
    if values is None:
        return None
    epoch, head, link = values.get("epoch"), values.get("head"), values.get("link")
    if not isinstance(epoch, str) or type(head) is not int or not 0 <= head < 1 << 53:
        return None
    if not isinstance(link, str) or not _LINK.fullmatch(link):
        return None
    return Anchored(epoch, head, link)
