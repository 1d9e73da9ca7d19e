"""Says in the journal itself how many events it could not keep, as soon as it takes events again.

Such an event has no number, so no gap tells of it: without this record the register would look whole. What waits in
memory is not lost yet (journal.unsaved). What was lost in an earlier start is reported by the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from gateway.edge.answers import Ticket
from gateway.edge.tapline import Recorder
from gateway.errors import RetryError
from gateway.journal.journal import JournalStats
from gateway.journal.unsaved import Tally, Unsaved

log = logging.getLogger(__name__)

_RECORD_SECONDS = 2.0


class Refusals:
    """Watches one journal; call `turn` about once a second from one thread."""

    def __init__(self, stats: Callable[[], JournalStats], recorder: Recorder, unsaved: Unsaved) -> None:
        self._stats, self._recorder, self._unsaved = stats, recorder, unsaved
        self._reported = 0
        self._is_troubled = False
        self._earlier: Ticket | None = None

    def turn(self) -> None:
        """Note new refusals, or record them when the journal is well again."""
        stats = self._stats()
        is_troubled = bool(stats.unsaved)
        if is_troubled and not self._is_troubled:
            log.error("events are kept in memory only: %s", stats.last_refusal)
        self._is_troubled = is_troubled
        is_well = stats.state == "ok" and not is_troubled
        self._tell_earlier(is_well=is_well)
        lost = self._unsaved.lost
        if lost.count > self._reported and is_well and self._tell(lost, lost.count - self._reported):
            self._reported = lost.count
            self._unsaved.report_done(lost.count)
            self._unsaved.write()

    def _tell_earlier(self, *, is_well: bool) -> None:
        tally = self._unsaved.before
        if not tally.count:
            return
        if self._earlier is None:
            # Also while the disk refuses: from memory it reaches the hub.
            log.error("an earlier start lost %s events: %s", tally.count, tally.why)
            self._earlier = self._record(tally, tally.count)
        elif is_well and _is_over(self._earlier):
            # Kept at once, or taken over from memory since; until then the count stays where it is.
            self._unsaved.told_before()
            self._unsaved.write()

    def _tell(self, tally: Tally, count: int) -> bool:
        try:
            self._record(tally, count).wait(_RECORD_SECONDS)
        except (RetryError, TimeoutError):
            # It waits in memory or in the queue, and is not lost with it: it is counted like any other.
            return self._unsaved.held > 0
        return True

    def _record(self, tally: Tally, count: int) -> Ticket:
        body: dict[str, Any] = {"what": "events_refused", "count": count}
        body |= {"since": tally.since, "until": tally.until, "why": tally.why}
        return self._recorder.record("system", system=body)


def _is_over(ticket: Ticket) -> bool:
    try:
        ticket.wait(0)
    except (RetryError, TimeoutError):
        return ticket.done
    return True
