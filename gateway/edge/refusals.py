"""Says in the journal itself how many events it had to refuse, as soon as it takes events again.

A refused event has no number, so no gap tells of it: without this record the register would look whole after a full
disk. What was still to be told when the power failed is lost with it; the log has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.edge.tapline import Recorder
from gateway.errors import RetryError
from gateway.journal.journal import JournalStats

log = logging.getLogger(__name__)

_RECORD_SECONDS = 2.0


class Refusals:
    """Watches one journal; call `turn` about once a second from one thread.

    Args:
        now: returns the time as events carry it.
    """

    def __init__(self, stats: Callable[[], JournalStats], recorder: Recorder, now: Callable[[], str]) -> None:
        self._stats, self._recorder, self._now = stats, recorder, now
        self._told = 0
        self._since: str | None = None

    def turn(self) -> None:
        """Note new refusals, or record them when the journal is well again."""
        stats = self._stats()
        count = stats.refused - self._told
        if count <= 0:
            return
        if self._since is None:
            self._since = self._now()
            log.error("events are refused: %s", stats.last_refusal)
        if stats.state != "ok":
            return
        said = {"what": "events_refused", "count": count, "since": self._since, "until": self._now()}
        said["why"] = stats.last_refusal
        try:
            self._recorder.record("system", system=said).wait(_RECORD_SECONDS)
        except TimeoutError:
            return
        except RetryError:
            # This very record was refused and counted; it is not one of those to tell.
            self._told += 1
            return
        self._told, self._since = stats.refused, None
