"""Which gateways to ask for missing events, and which for a new birth; decided from the database alone.

A mark below what its gateway reports as acknowledged, or one with a hole that does not close, means that this hub was
restored from a backup. Gateways keep what they sent for some days.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, or_, select

from gateway.hub.ingest.marks import read_ranges
from gateway.hub.store import tables
from gateway.link.topics import GatewayTopics

HOLE_SECONDS = 15.0
ASK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Gap:
    """A closed range of one journal that is missing here; `last` may lie a little too high."""

    topics: GatewayTopics
    epoch: str
    first: int
    last: int


@dataclass(slots=True)
class Asking:
    """Remembers requests, so that none is repeated while its answer is on the way."""

    hole_seconds: float = HOLE_SECONDS
    ask_again_seconds: float = ASK_AGAIN_SECONDS
    _since: dict[tuple[int, str], tuple[int, float]] = field(default_factory=dict)
    _requested: dict[tuple[int, str], tuple[int, float]] = field(default_factory=dict)
    _reborn: dict[int, float] = field(default_factory=dict)

    def missing(self, connection: Connection, now: float) -> list[Gap]:
        """Return what to ask for at a moment of one monotonic clock."""
        mark, owner = tables.mark, tables.gateway
        below = owner.c.acked > mark.c.upto
        rows = connection.execute(
            select(owner.c.id, owner.c.site, owner.c.name, owner.c.acked, mark.c.epoch, mark.c.upto, mark.c.have)
            .join_from(mark, owner, owner.c.id == mark.c.gateway)
            .where(mark.c.epoch == owner.c.epoch, owner.c.state == "ready", or_(mark.c.have != "[]", below))
        ).all()
        gaps: list[Gap] = []
        open_now = set()
        for row in rows:
            key = (row.id, row.epoch)
            open_now.add(key)
            upto, since = self._since.get(key, (-1, now))
            if upto != row.upto:
                since = now
                self._since[key] = row.upto, now
            if row.acked <= row.upto and now - since < self.hole_seconds:
                # Live events overtake the backlog, so only a hole that persists matters.
                continue
            requested_upto, requested_at = self._requested.get(key, (-1, now))
            if requested_upto == row.upto and now - requested_at < self.ask_again_seconds:
                continue
            self._requested[key] = row.upto, now
            have = read_ranges(row.have)
            last = max(row.acked, have[-1][0] - 1 if have else 0)
            gaps.append(Gap(GatewayTopics(row.site, row.name), row.epoch, row.upto + 1, last))
        for known in (self._since, self._requested):
            for key in known.keys() - open_now:
                del known[key]
        return gaps

    def unborn(self, connection: Connection, now: float) -> list[GatewayTopics]:
        """Return the gateways to ask for a birth: never heard by this hub, or with a forked journal."""
        mark, owner = tables.mark, tables.gateway
        forked = select(mark.c.gateway).where(mark.c.forked.is_not(None), mark.c.epoch == owner.c.epoch)
        never = owner.c.seen_ms.is_not(None) & (owner.c.state == "unheard")
        rows = connection.execute(
            select(owner.c.id, owner.c.site, owner.c.name).where(or_(never, owner.c.id.in_(forked.correlate(owner))))
        ).all()
        due = [row for row in rows if now - self._reborn.get(row.id, -self.ask_again_seconds) >= self.ask_again_seconds]
        self._reborn.update((row.id, now) for row in due)
        return [GatewayTopics(row.site, row.name) for row in due]
