"""Decides which hub serves a broker: a signed, retained claim, and the rules for two rival claims.

Two hubs with databases of their own would share the events of every gateway between them. The one whose database is
older continues; the other takes no events, and both report it. The workers of one hub share one database and one claim,
and only the process with the fleet lock publishes it.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy import Connection, insert, select, update

from gateway.errors import BadRoster
from gateway.hub.ingest.fence import CLAIMING
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.link.messages import HubClaim, HubState, Signed, encode
from gateway.roster.signing import Signer, Trust

log = logging.getLogger(__name__)

CLAIM_PURPOSE = b"tapgate hub claim v1\0"
LISTEN_SECONDS = 0.5
SETTLE_SECONDS = 1.5
RENEW_SECONDS = 20.0
UNCONFIRMED_SECONDS = 60.0
_ALARM_AGAIN_SECONDS = 600.0


class Claim:
    """The claim of one process that holds the fleet lock; used by its thread only.

    Args:
        keys: returns the keys of the hub's sites by site.
    """

    def __init__(self, store: Store, signer: Signer, keys: Callable[[], Mapping[str, bytes]]) -> None:
        self._store, self._signer, self._keys = store, signer, keys
        self.holder = secrets.token_hex(16)
        self._taken_ms = now_ms()
        self._instance, self._since_ms = self._enter()
        self._connected_at: float | None = None
        self._alarmed_at: dict[str, float] = {}
        # Which hub fenced this one, and until when a message that is not retained must confirm it.
        self._rival: str | None = None
        self._untold = False
        self._confirm_by: float | None = None

    def _enter(self) -> tuple[str, int]:
        claim = tables.hub_claim
        changed = {"holder": self.holder, "fenced": CLAIMING, "changed_ms": now_ms()}
        with self._store.write() as connection:
            row = connection.execute(select(claim)).one_or_none()
            if row is None:
                # The instance begins with its age, because every column would be copied with the database.
                row_values = {"id": 1, "instance": f"{now_ms():012x}{secrets.token_hex(12)}"}
                connection.execute(insert(claim).values(**row_values, **changed))
                instance = str(row_values["instance"])
            else:
                instance = row.instance
                connection.execute(update(claim).values(**changed))
        return instance, int(instance[:12], 16)

    def connected(self) -> None:
        """Start listening for another hub."""
        self._connected_at = time.monotonic()

    def payload(self, state: str) -> bytes:
        """Return the message for the hub's topic, signed for the first site; gateways see that this hub welcomes."""
        site, key = next(iter(sorted(self._keys().items())), ("", bytes(32)))
        body = encode(HubClaim(self._instance, self.holder, self._since_ms, site, self._taken_ms)).decode()
        seal = self._signer.seal_statement(key, CLAIM_PURPOSE, body)
        return encode(HubState("ready" if state == "ready" else "lost", Signed(body, seal)))

    @property
    def may_speak(self) -> bool:
        """Return whether this hub may report ready: no other hub was heard for a moment, and it is not fenced."""
        listened = self._connected_at is not None and time.monotonic() - self._connected_at >= LISTEN_SECONDS
        return listened and self._rival is None

    def tick(self) -> None:
        """Release the workers once no hub objected, and end a fence that was not confirmed."""
        now = time.monotonic()
        if self._rival is not None and self._confirm_by is not None and now > self._confirm_by:
            log.warning("the other hub on this broker is silent; this one takes events again")
            self._rival = self._confirm_by = None
            self._connected_at = now
        if self._connected_at is None or now - self._connected_at < SETTLE_SECONDS:
            return
        if self._rival is None:
            self._keep(None, only_from=CLAIMING)

    def heard(self, state: HubState, *, retained: bool) -> bool:
        """Handle a hub's claim; return whether to publish this hub's own again at once."""
        if state.claim is None:
            # A hub before 0.3, or this one's own last claim in that form.
            if state.state == "ready" and not retained:
                self._alarm(
                    "An older hub uses this broker too; stop one of them, because each gets only some of the taps."
                )
            return not retained
        try:
            other = msgspec.json.decode(state.claim.body, type=HubClaim)
        except msgspec.MsgspecError:
            return False
        if other.holder == self.holder:
            return False
        if state.state != "ready":
            if other.holder == self._rival and self._confirm_by is not None:
                self._confirm_by = time.monotonic()
            return True
        if not self._is_genuine(other, state.claim):
            self._alarm("A hub of another school uses this broker; give each its own broker.")
            return not retained
        if other.instance == self._instance and (retained or self._succeeded()):
            return False
        return self._contend(other, retained=retained)

    def _contend(self, other: HubClaim, *, retained: bool) -> bool:
        mine = (self._since_ms, self._taken_ms, self.holder)
        if mine < (other.since_ms, other.taken_ms, other.holder):
            self._alarm(
                "A second hub serves this broker with a database of its own; it is stopped from taking events. Stop "
                "it, or give it a broker of its own."
            )
            return True
        if self._rival is None:
            why = (
                "Another hub, older than this one, serves this broker: this one takes no events, so that none goes to "
                "the wrong database. Stop one of them; restart this one if it is to serve."
            )
            log.error("%s", why)
            self._rival, self._untold = other.holder, True
            self._confirm_by = time.monotonic() + UNCONFIRMED_SECONDS
            self._keep(why)
        if not retained:
            self._confirm_by = None
        return False

    @property
    def fenced(self) -> bool:
        return self._rival is not None

    def objection(self) -> bytes | None:
        """Return, once, the message by which a fenced hub warns the other one's users; not to be retained."""
        if not self._untold:
            return None
        self._untold = False
        return self.payload("ready")

    def _succeeded(self) -> bool:
        claim = tables.hub_claim
        with self._store.read() as connection:
            return connection.scalar(select(claim.c.holder)) != self.holder

    def _is_genuine(self, other: HubClaim, signed: Signed) -> bool:
        key = self._keys().get(other.site)
        if key is None:
            return False
        try:
            Trust(key).check_statement(CLAIM_PURPOSE, signed.body, signed.seal)
        except BadRoster:
            return False
        return True

    def _alarm(self, sentence: str) -> None:
        now = time.monotonic()
        if now - self._alarmed_at.get(sentence, -_ALARM_AGAIN_SECONDS) < _ALARM_AGAIN_SECONDS:
            return
        self._alarmed_at[sentence] = now
        log.error("%s", sentence)
        with self._store.write() as connection:
            connection.execute(update(tables.hub_claim).values(alarm=sentence, alarm_ms=now_ms()))

    def _keep(self, why: str | None, *, only_from: str | None = None) -> None:
        claim = tables.hub_claim
        change = update(claim).where(claim.c.holder == self.holder)
        if only_from is not None:
            change = change.where(claim.c.fenced == only_from)
        with self._store.write() as connection:
            connection.execute(change.values(fenced=why, changed_ms=now_ms()))


def hub_alarm(connection: Connection, since_ms: int) -> str | None:
    """Return what is wrong between this hub and another on its broker, in one sentence; None when nothing is."""
    claim = tables.hub_claim
    row = connection.execute(select(claim.c.fenced, claim.c.alarm, claim.c.alarm_ms)).one_or_none()
    if row is None:
        return None
    if row.fenced is not None and row.fenced != CLAIMING:
        return str(row.fenced)
    return str(row.alarm) if row.alarm is not None and (row.alarm_ms or 0) > since_ms else None
