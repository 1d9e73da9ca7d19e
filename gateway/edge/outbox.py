"""Which events go next: a plain state machine without a connection, a clock or a thread of its own.

Law of this file: an event leaves the outbox only when the hub's watermark covers it. Live before resent before
backlog; at most WINDOW messages without the broker's confirmation; at most BACKLOG_MESSAGES of backlog without the
hub's watermark, which is the pace; everything of a broken connection is backlog of the next one. A message is cut by
count and by bytes, and what the broker finds too large is cut again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from gateway.journal.journal import Journal
from gateway.link.client import WINDOW
from gateway.link.watermark import Coverage

LIVE, BACKLOG = "live", "backlog"
EVENTS_PER_MESSAGE = 50
MESSAGE_BYTES = 128 * 1024
BACKLOG_MESSAGES = 8
LIVE_MESSAGES = 200
_LIVE_QUEUE_EVENTS = 2000
RESEND_MAX_SECONDS = 60.0
REFUSED_SECONDS = 5.0
_AFTER_HUB_SECONDS = 2.0
_BUSY_TICK_SECONDS = 0.1


@dataclass(slots=True)
class Parcel:
    """One message and its events, a closed range of numbers.

    Attributes:
        mid: the broker's confirmation is outstanding under this id.
        due_at: when it is to be sent, or sent again.
        size: bytes when it was sent last.
        forced: replayed at the hub's wish, whatever the watermark says.
    """

    kind: Literal["live", "backlog"]
    first: int
    last: int
    due_at: float
    mid: int | None = None
    sent_at: float = 0.0
    tries: int = 0
    size: int = 0
    forced: bool = False
    raws: list[bytes] | None = None


def count_fitting(events: Sequence[tuple[int, bytes]], message_bytes: int) -> int:
    """Return how many events, from the first on, make a message of less than so many bytes; one always does."""
    room = message_bytes
    for count, (_, raw) in enumerate(events):
        if count and len(raw) >= room:
            return count
        room -= len(raw) + 1
    return len(events)


class Outbox:
    """What is waiting and what is under way; times are seconds of one monotonic clock, given by the caller."""

    def __init__(self, journal: Journal, resend_seconds: float, *, message_bytes: int = MESSAGE_BYTES) -> None:
        self._journal = journal
        self.message_bytes = message_bytes
        self._resend_seconds = resend_seconds
        self._coverage = Coverage(journal.acked)
        self._live: deque[tuple[int, bytes]] = deque()
        self._parcels: list[Parcel] = []
        self._by_mid: dict[int, Parcel] = {}
        self._cursor = journal.acked + 1
        self._backlog_end = journal.head
        self._forced_end = 0
        self._backlog_at = 0.0
        self._refused_until = 0.0
        self._refused_seconds = REFUSED_SECONDS
        self._passed_bytes = 0
        self._held: set[int] = set()
        self.refused: str | None = None
        self.commit_ms: float | None = None
        self.sent = 0
        self.resent = 0

    @property
    def in_flight(self) -> int:
        return len(self._by_mid)

    @property
    def backlog_waiting(self) -> int:
        """Return how many events of the backlog were not sent yet over this connection."""
        return max(0, self._backlog_end - self._cursor + 1)

    @property
    def live_done(self) -> bool:
        return not self._live and not any(parcel.kind == LIVE for parcel in self._parcels)

    def pause_seconds(self, now: float, idle_seconds: float) -> float:
        """Return how long the owner may sleep when nothing comes in."""
        if self._parcels or self._live or now < self._backlog_at < now + idle_seconds:
            return _BUSY_TICK_SECONDS
        return idle_seconds

    # What happens to the connection.

    def reconnected(self) -> None:
        """Begin anew: everything that is in the journal now and not at the hub is backlog."""
        self.disconnected()
        self._cursor = self._coverage.next_missing(1)
        self._backlog_end = self._journal.head

    def disconnected(self) -> None:
        """Forget what was under way; the journal has it."""
        self._live.clear()
        self._parcels.clear()
        self._by_mid.clear()
        self._forced_end = 0

    def hold_backlog(self, until: float) -> None:
        self._backlog_at = until

    def hub_is_back(self, now: float) -> None:
        """Let the hub's watermark arrive before anything is sent again."""
        for parcel in self._parcels:
            parcel.due_at = now + _AFTER_HUB_SECONDS

    def live(self, seq: int, raw: bytes, *, connected: bool) -> None:
        """Take in an event that just became durable."""
        if not connected or seq <= self._backlog_end:
            return
        self._live.append((seq, raw))
        if len(self._live) > _LIVE_QUEUE_EVENTS:
            # Nobody takes them: they are history by the time somebody does.
            self._backlog_end = self._live[-1][0]
            self._live.clear()

    def replay(self, first: int, last: int | None = None) -> None:
        """Send a range again, also what the watermark covers; without `last` to the head."""
        known = self._coverage
        self._coverage = Coverage(min(known.upto, first - 1))
        self._backlog_end = max(self._journal.head, self._backlog_end)
        self._forced_end = self._backlog_end if last is None else min(last, self._backlog_end)
        if last is not None:
            self._coverage.add(self._forced_end + 1, known.upto)
            for held in known.have:
                self._coverage.add(max(held[0], self._forced_end + 1), held[1])
        self._cursor = first
        self._live.clear()

    # What goes next.

    def next(self, now: float, *, hub_away: bool) -> Parcel | None:
        """Return the message to send now; report it with `was_sent`, or it is given again."""
        if len(self._by_mid) >= WINDOW or now < self._refused_until:
            return None
        live_out = backlog_out = 0
        for parcel in self._parcels:
            if parcel.mid is None and parcel.due_at <= now and not (hub_away and parcel.tries):
                return parcel
            if parcel.kind == LIVE:
                live_out += 1
            else:
                backlog_out += 1
        if self._live and live_out < LIVE_MESSAGES:
            return self._next_live(now)
        if hub_away or now < self._backlog_at or backlog_out >= BACKLOG_MESSAGES:
            return None
        return self._next_backlog(now)

    def _next_live(self, now: float) -> Parcel:
        chosen = list(islice(self._live, EVENTS_PER_MESSAGE))
        del chosen[count_fitting(chosen, self.message_bytes) :]
        for _ in chosen:
            self._live.popleft()
        parcel = Parcel("live", chosen[0][0], chosen[-1][0], now, raws=[raw for _, raw in chosen])
        self._parcels.append(parcel)
        return parcel

    def _next_backlog(self, now: float) -> Parcel | None:
        forced = self._cursor <= self._forced_end
        first = self._cursor if forced else self._coverage.next_missing(self._cursor)
        while first in self._held:
            first = self._coverage.next_missing(first + 1)
        if first > self._backlog_end:
            self._cursor = first
            return None
        last = min(first + EVENTS_PER_MESSAGE - 1, self._backlog_end)
        known = None if forced else self._coverage.next_known(first)
        if known is not None:
            last = min(last, known - 1)
        if self._held:
            last = min([last, *(seq - 1 for seq in self._held if seq > first)])
        self._cursor = last + 1
        parcel = Parcel("backlog", first, last, now, forced=forced)
        self._parcels.append(parcel)
        return parcel

    def raws(self, parcel: Parcel) -> list[bytes]:
        """Return the stored bytes of a message's events; none when the journal has forgotten them meanwhile."""
        if parcel.raws is not None:
            return parcel.raws
        found = self._journal.after(parcel.first - 1, parcel.last - parcel.first + 1)
        found = [(seq, raw) for seq, raw in found if seq <= parcel.last]
        count = count_fitting(found, self.message_bytes)
        if count < len(found):
            rest = Parcel(parcel.kind, found[count][0], parcel.last, parcel.due_at, forced=parcel.forced)
            self._parcels.insert(self._parcels.index(parcel) + 1, rest)
            parcel.last = rest.first - 1
        return [raw for _, raw in found[:count]]

    def was_sent(self, parcel: Parcel, mid: int, now: float, size: int = 0) -> None:
        """Note that a message of so many bytes is on its way; the broker will confirm it under `mid`."""
        parcel.size = size
        self.sent += 1
        self.resent += parcel.tries > 0
        parcel.mid, parcel.raws = mid, None
        parcel.sent_at = now
        parcel.due_at = now + min(self._resend_seconds * 2**parcel.tries, RESEND_MAX_SECONDS)
        parcel.tries += 1
        self._by_mid[mid] = parcel

    def drop(self, parcel: Parcel) -> None:
        """Take out a message whose events are gone from the journal."""
        self._parcels.remove(parcel)

    # What comes back.

    def limit(self, message_bytes: int) -> None:
        """Cut messages to what the broker takes; it only shrinks, an event that is larger still goes alone."""
        self.message_bytes = min(self.message_bytes, max(message_bytes, 1))

    def too_large(self) -> None:
        """Cut what is under way: the connection ended, it may be over the size of a message."""
        # What was taken before was not too large; of the others the largest is.
        suspects = [parcel for parcel in self._by_mid.values() if parcel.size > self._passed_bytes]
        if suspects:
            self._shrink(max(suspects, key=lambda parcel: parcel.size))

    def _shrink(self, parcel: Parcel) -> None:
        if parcel.first < parcel.last:
            self.limit(parcel.size // 2)
            return
        self._held.add(parcel.first)
        if parcel in self._parcels:
            self._parcels.remove(parcel)
        self.refused = (
            f"The broker takes no message of {parcel.size} bytes, so event {parcel.first} waits; raise its limit "
            "(mosquitto: message_size_limit) and start the gateway again."
        )

    def published(self, mid: int, refused: str | None, now: float, *, too_large: bool = False) -> float | None:
        """Take in the broker's answer; returns the milliseconds it took, None for a message that is not ours."""
        parcel = self._by_mid.pop(mid, None)
        if parcel is None:
            return None
        parcel.mid = None
        if too_large:
            parcel.due_at = now
            self._shrink(parcel)
            return None
        if refused:
            self.refused = f"The broker refuses what this gateway sends: {refused}. Check its access rules."
            self._refused_until = parcel.due_at = now + self._refused_seconds
            self._refused_seconds = min(self._refused_seconds * 2, RESEND_MAX_SECONDS)
            return None
        self.refused, self._refused_seconds = self.refused if self._held else None, REFUSED_SECONDS
        self._passed_bytes = max(self._passed_bytes, parcel.size)
        if parcel.forced and self._coverage.covers(parcel.first, parcel.last) and parcel in self._parcels:
            self._parcels.remove(parcel)
        parcel.forced = False
        return (now - parcel.sent_at) * 1000

    def watermark(self, upto: int, have: list[tuple[int, int]], now: float) -> None:
        """Take in what the hub has committed."""
        self._coverage.merge(upto, have)
        left: list[Parcel] = []
        for parcel in self._parcels:
            if parcel.forced or not self._coverage.covers(parcel.first, parcel.last):
                left.append(parcel)
            elif parcel.kind == LIVE and parcel.tries == 1:
                self.commit_ms = (now - parcel.sent_at) * 1000
        self._parcels = left
