"""The hub's own connection: its state, watermarks again when asked for, births and wills, rosters.

One thread owns it. Several hubs may run; the one that holds the lock publishes, the others wait. Everything retained is
sent again after each connect, because a broker may have forgotten it. The hub says `ready` while its database answers
and no older hub serves the broker: gateways hold their backlog otherwise. Each birth gets its signed answer.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from gateway.config import BrokerSettings
from gateway.errors import BadMessage, StoreUnavailable
from gateway.hub.fleet.asking import Asking
from gateway.hub.fleet.claim import RENEW_SECONDS, Claim
from gateway.hub.fleet.counting import RosterCount
from gateway.hub.fleet.gateways import find_gateway, list_gateways, note_state, note_verdict
from gateway.hub.fleet.presence import PresencePublisher
from gateway.hub.fleet.publishing import RosterPublisher
from gateway.hub.fleet.welcome import TWIN_QUIET_MS, Verdict, judge_birth
from gateway.hub.ingest.marks import skip_lost, stored_watermarks, watermark_of
from gateway.hub.ingest.parse import Fault
from gateway.hub.ingest.quarantine import quarantine
from gateway.hub.ingest.seals import Sealer, read_site_keys
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.work.standby import LOOK_SECONDS, Standby
from gateway.link.client import Arrived, Connected, Disconnected, Link, Will
from gateway.link.client import Published as Answered
from gateway.link.messages import (
    WELCOME_PURPOSE,
    Command,
    GatewayState,
    HubState,
    Reply,
    Reported,
    Signed,
    Welcome,
    decode,
    encode,
)
from gateway.link.topics import (
    ALL_REPLIES,
    ALL_REPORTED,
    ALL_STATES,
    HUB_STATE,
    GatewayTopics,
    parse_gateway_topic,
    roster_manifest,
)
from gateway.roster.signing import Signer

log = logging.getLogger(__name__)

LOCK = "fleet"
POLL_SECONDS = 0.1
REPLAY_EXPIRY_SECONDS = 300
ASK_SECONDS = 2.0
_LATE_MESSAGES = 5000


class FleetService(Standby):
    """Runs the fleet connection in a thread of its own.

    Args:
        worker: stable over restarts and different for each hub process.
        twin_quiet_ms: for how long only one of two machines with one id must have been heard before it goes on.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        worker: str,
        store: Store,
        signer: Signer,
        *,
        beat: Callable[[], None] = lambda: None,
        asking: Asking | None = None,
        twin_quiet_ms: int = TWIN_QUIET_MS,
    ) -> None:
        super().__init__(LOCK, store, beat)
        self._broker, self._worker, self._signer = broker, worker, signer
        self._seal = Sealer(store, signer)
        self._link: Link | None = None
        self._is_new_here = False
        self._published: str | None = None
        self._published_at = self._asked_at = 0.0
        self._count = RosterCount(signer)
        self._rosters = RosterPublisher(store, signer, self._count.floor)
        self._presence = PresencePublisher(store, signer)
        self._late: deque[Arrived] = deque(maxlen=_LATE_MESSAGES)
        self._asking = asking or Asking()
        self._twin_quiet_ms = twin_quiet_ms

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    def _work(self, still_held: Callable[[], bool]) -> None:
        claim = Claim(self._store, self._signer, lambda: read_site_keys(self._store))
        # Not told as lost by a fenced hub: the word on the broker is that of the one that serves.
        lost = Will(HUB_STATE, claim.payload("lost"))
        link = Link(self._broker, f"{self._worker}-fleet", will=lost, session_expiry_seconds=0)
        self._link, self._published = link, None
        link.start()
        try:
            checked = time.monotonic()
            while not self._stopping.is_set():
                self._beat()
                self._turn(link, claim)
                if time.monotonic() - checked > LOOK_SECONDS:
                    checked = time.monotonic()
                    if not still_held():
                        log.warning("this hub no longer holds the fleet lock and steps back")
                        return
        finally:
            link.close(None if claim.fenced else lost)
            self._link = None

    def _turn(self, link: Link, claim: Claim) -> None:
        try:
            item = link.inbox.get(timeout=POLL_SECONDS)
        except queue.Empty:
            item = None
        try:
            if item is not None:
                self._take(link, claim, item)
            if link.connected:
                claim.tick()
                if claim.may_speak:
                    if self._is_new_here:
                        self._enter(link)
                    self._say(link, claim, "ready")
                    while self._late:
                        self._take(link, claim, self._late.popleft())
                    self._rosters.turn(link)
                    self._presence.turn(link)
                    self._ask(link)
        except StoreUnavailable as error:
            log.warning("%s Gateways are told to hold their backlog.", error)
            if claim.may_speak:
                self._say(link, claim, "lost")
            self._stopping.wait(1.0)
        except Exception:
            log.exception("the fleet service met a fault of its own; it goes on")
            self._stopping.wait(1.0)

    def _take(self, link: Link, claim: Claim, item: Any) -> None:
        try:
            self._on_item(link, claim, item)
        except StoreUnavailable:
            raise
        except Exception as error:
            if not isinstance(item, Arrived):
                raise
            log.exception("a message on %s met a fault and is set aside", item.topic)
            with self._store.write() as connection:
                why = f"The hub could not take this message ({type(error).__name__})."
                quarantine(connection, item.topic, Fault(item.payload, why), now_ms())

    def _say(self, link: Link, claim: Claim, state: str) -> None:
        now = time.monotonic()
        if state == self._published and now - self._published_at < RENEW_SECONDS:
            return
        if link.publish(HUB_STATE, claim.payload(state), retain=True) is not None:
            self._published, self._published_at = state, now

    def _site_key(self, site: str) -> bytes | None:
        # Read anew each time: a site may come, and its key may be changed, while this runs.
        return read_site_keys(self._store, [site]).get(site)

    def _on_item(self, link: Link, claim: Claim, item: Connected | Disconnected | Arrived | Answered) -> None:
        if isinstance(item, Connected):
            self._published, self._is_new_here = None, True
            claim.connected()
            with self._store.read() as connection:
                sites = sorted(connection.scalars(select(tables.site.c.id)))
            self._rosters.start_over(sites)
            self._presence.start_over()
            manifests = [roster_manifest(site) for site in sites]
            link.subscribe([HUB_STATE, ALL_STATES, ALL_REPLIES, ALL_REPORTED, *manifests])
        elif isinstance(item, Disconnected):
            log.warning("fleet: %s", item.why)
        elif isinstance(item, Arrived):
            self._arrived(link, claim, item)
        elif item.refused:
            log.error("the broker refused a message of the hub (%s); check its rights", item.refused)

    def _arrived(self, link: Link, claim: Claim, item: Arrived) -> None:
        if item.topic == HUB_STATE:
            self._on_hub_state(claim, item)
            if (objection := claim.objection()) is not None:
                link.publish(HUB_STATE, objection)
        elif item.topic.endswith("/roster/manifest"):
            self._on_manifest(item)
        elif claim.fenced:
            # The hub that serves answers.
            self._late.clear()
        elif not claim.may_speak:
            self._late.append(item)
        elif item.topic.endswith("/reply"):
            self._on_reply(item)
        elif item.topic.endswith("/reported"):
            self._on_reported(item)
        else:
            self._on_state(link, item)

    def _enter(self, link: Link) -> None:
        """Say again what the broker may have forgotten, and ask the gateways for theirs."""
        self._is_new_here = False
        with self._store.read() as connection:
            marks = stored_watermarks(connection)
            names = [GatewayTopics(view.site, view.name) for view in list_gateways(connection)]
        for topics, mark in marks:
            link.publish(topics.ack, encode(self._seal(topics, mark)), retain=True)
        for topics in names:
            # Their own word of what was acknowledged may lie above what this database has since a restore.
            self._ask_for_birth(link, topics)

    def _on_hub_state(self, claim: Claim, item: Arrived) -> None:
        if not item.payload:
            return
        try:
            state = decode(item.payload, HubState)
        except BadMessage as error:
            log.warning("a hub's state was ignored: %s", error)
            return
        if claim.heard(state, retained=item.retained):
            self._published = None

    def _on_manifest(self, item: Arrived) -> None:
        # The retained word of this very hub: its count before it was put back to a backup.
        site = item.topic.split("/")[2]
        key = self._site_key(site)
        if key is not None and item.payload and self._count.take_manifest(site, item.payload, key):
            self._rosters.look_again(site)

    def _on_state(self, link: Link, item: Arrived) -> None:
        topic = parse_gateway_topic(item.topic)
        if topic is None or not item.payload:
            return
        site, name, _ = topic
        key = self._site_key(site)
        with self._store.write() as connection:
            try:
                state = decode(item.payload, GatewayState)
            except BadMessage as error:
                quarantine(connection, item.topic, Fault(item.payload, str(error)), now_ms())
                return
            number = note_state(connection, site, name, state, now_ms())
            if number is None or state.state != "ready":
                return
            topics, mark = GatewayTopics(site, name), None
            if state.witness:
                verdict = judge_birth(connection, number, state, now_ms(), twin_quiet_ms=self._twin_quiet_ms)
                welcome = self._welcome(connection, topics, state, verdict, key)
                mark = msgspec.structs.replace(watermark_of(connection, number, state.epoch), welcome=welcome)
            else:
                mark = dict(stored_watermarks(connection, number)).get(topics)
        if mark is not None:
            link.publish(topics.ack, encode(self._seal(topics, mark)), retain=True)
        if state.proof is not None and key is not None and self._count.take_proof(site, name, state.proof, key):
            self._rosters.look_again(site)
        self._asked_at = 0.0

    def _welcome(
        self, connection: Connection, topics: GatewayTopics, state: GatewayState, verdict: Verdict, key: bytes | None
    ) -> Signed:
        generation = tables.roster_generation
        newest = select(func.max(generation.c.version)).where(generation.c.site == topics.site)
        body = encode(
            Welcome(
                topics.site,
                topics.gateway,
                state.witness,
                verdict.word,
                state.epoch,
                verdict.at,
                now_ms(),
                connection.scalar(newest) or 0,
                list(verdict.others),
                seals=key is not None,
            )
        ).decode()
        # Without the site's key only `go_on` is believed, as before there was a signature.
        seal = self._signer.seal_statement(key, WELCOME_PURPOSE, body) if key is not None else ""
        return Signed(body, seal)

    def _ask(self, link: Link) -> None:
        now = time.monotonic()
        if now - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = now
        with self._store.read() as connection:
            missing = self._asking.missing(connection, now)
            unborn = self._asking.unborn(connection, now)
        for topics in unborn:
            self._ask_for_birth(link, topics)
        for gap in missing:
            topics = gap.topics
            log.warning(
                "events %s to %s of gateway %s/%s are not here; it is asked again",
                gap.first,
                gap.last,
                topics.site,
                topics.gateway,
            )
            correlation = f"{gap.epoch}:{gap.first - 1}".encode()
            args = {"from": gap.first, "to": gap.last, "epoch": gap.epoch}
            link.publish(
                topics.command,
                encode(Command("replay", args=args)),
                expiry_seconds=REPLAY_EXPIRY_SECONDS,
                response_topic=topics.reply,
                correlation=correlation,
            )

    def _ask_for_birth(self, link: Link, topics: GatewayTopics) -> None:
        link.publish(topics.command, encode(Command("rebirth")), expiry_seconds=REPLAY_EXPIRY_SECONDS)

    def _on_reported(self, item: Arrived) -> None:
        """Note a gateway's verdict on itself, and whether it found its site's roster missing or damaged."""
        topic = parse_gateway_topic(item.topic)
        if topic is None or not item.payload:
            return
        try:
            reported = decode(item.payload, Reported)
        except BadMessage as error:
            log.warning("what %s/%s reports of itself was ignored: %s", topic[0], topic[1], error)
            return
        if reported.level:
            with self._store.write() as connection:
                note_verdict(connection, topic[0], topic[1], reported, now_ms())
        if reported.missing and self._site_key(topic[0]) is not None:
            log.warning("gateway %s/%s lacks parts of its roster on the broker", topic[0], topic[1])
            self._rosters.lacks(topic[0])

    def _on_reply(self, item: Arrived) -> None:
        topic = parse_gateway_topic(item.topic)
        epoch, _, _ = (item.correlation or b"").decode("ascii", "replace").rpartition(":")
        try:
            reply = decode(item.payload, Reply)
        except BadMessage as error:
            log.warning("a reply was ignored: %s", error)
            return
        first = (reply.result or {}).get("from")
        if topic is None or reply.name != "replay" or not reply.done or not epoch or type(first) is not int:
            return
        with self._store.write() as connection:
            number = find_gateway(connection, topic[0], topic[1])
            lost = skip_lost(connection, number, epoch, first, now_ms()) if number is not None else None
        if lost:
            # The chain watch finds the hole and names it; here only the mark is freed.
            log.error("gateway %s/%s no longer has events %d to %d, and neither has the hub", *topic[:2], *lost)
