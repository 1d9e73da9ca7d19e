"""Whether this hub may take events: not while another hub serves the same broker (fleet/claim.py decides)."""

from __future__ import annotations

import time

from sqlalchemy import select

from gateway.errors import StoreUnavailable
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms

CLAIMING = "This hub is first checking that no other hub serves this broker."
# The check takes two seconds; a process that ended meanwhile must not hold the workers back.
_CLAIMING_MS = 30_000
# Without a claim the database is new, or no process of this hub talks to the gateways; wait for the first case only.
_NO_CLAIM_SECONDS = 3.0


class Fence:
    """The workers' view of the claim; the last answer holds while the database is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._why: str | None = None
        self._made_at = time.monotonic()

    def why(self) -> str | None:
        """Return why no events may be taken now, in one sentence; None when they may."""
        claim = tables.hub_claim
        try:
            with self._store.read() as connection:
                row = connection.execute(select(claim.c.fenced, claim.c.changed_ms)).one_or_none()
        except StoreUnavailable:
            return self._why
        if row is None:
            self._why = CLAIMING if time.monotonic() - self._made_at < _NO_CLAIM_SECONDS else None
            return self._why
        self._why = row.fenced
        if row.fenced == CLAIMING and now_ms() - row.changed_ms > _CLAIMING_MS:
            self._why = None
        return self._why
