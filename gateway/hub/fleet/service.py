"""The hub's own connection: its state, watermarks again when asked for, births and wills, rosters.

One thread owns it. Several hubs may run; the one that holds the lock publishes, the others wait. Everything retained is
sent again after each connect, because a broker may have forgotten it. The hub says `ready` while its database answers:
gateways hold their backlog otherwise.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from gateway.config import BrokerSettings
from gateway.errors import BadMessage, StoreUnavailable, TapgateError
from gateway.hub.directory.journal import last_change
from gateway.hub.fleet.gateways import find_gateway, note_state
from gateway.hub.fleet.rosters import Published, refresh
from gateway.hub.fleet.standby import LOOK_SECONDS, Standby
from gateway.hub.ingest.commit import quarantine
from gateway.hub.ingest.marks import skip_lost, stored_watermarks
from gateway.hub.ingest.parse import Fault
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.link.client import Arrived, Connected, Disconnected, Link, Will
from gateway.link.client import Published as Answered
from gateway.link.messages import Command, GatewayState, HubState, Reply, Watermark, decode, encode
from gateway.link.topics import (
    ALL_REPLIES,
    ALL_STATES,
    HUB_STATE,
    GatewayTopics,
    parse_gateway_topic,
    roster_chunk,
    roster_delta,
    roster_manifest,
)
from gateway.roster.signing import Signer

log = logging.getLogger(__name__)

LOCK = "fleet"
POLL_SECONDS = 0.25
REPLAY_EXPIRY_SECONDS = 300
_LOST = encode(HubState("lost"))
_READY = encode(HubState("ready"))


class FleetService(Standby):
    """Runs the fleet connection in a thread of its own.

    Args:
        worker: stable over restarts and different for each hub process.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        worker: str,
        store: Store,
        signer: Signer,
        *,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(LOCK, store, beat)
        self._broker, self._worker, self._signer = broker, worker, signer
        self._link: Link | None = None
        self._seen_change = -1
        self._ready = False
        self._resend: set[str] = set()

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    def _work(self, still_held: Callable[[], bool]) -> None:
        link = Link(self._broker, f"{self._worker}-fleet", will=Will(HUB_STATE, _LOST), session_expiry_seconds=0)
        self._link, self._ready, self._seen_change = link, False, -1
        link.start()
        try:
            checked = time.monotonic()
            while not self._stopping.is_set():
                self._beat()
                self._turn(link)
                if time.monotonic() - checked > LOOK_SECONDS:
                    checked = time.monotonic()
                    if not still_held():
                        log.warning("this hub no longer holds the fleet lock and steps back")
                        return
        finally:
            link.close(Will(HUB_STATE, _LOST))
            self._link = None

    def _turn(self, link: Link) -> None:
        try:
            item = link.inbox.get(timeout=POLL_SECONDS)
        except queue.Empty:
            item = None
        try:
            if item is not None:
                self._on_item(link, item)
            if link.connected:
                self._publish_changes(link)
                self._say(link, _READY)
        except StoreUnavailable as error:
            log.warning("%s Gateways are told to hold their backlog.", error)
            self._say(link, _LOST)
            self._stopping.wait(1.0)

    def _say(self, link: Link, state: bytes) -> None:
        ready = state == _READY
        if ready != self._ready and link.publish(HUB_STATE, state, retain=True) is not None:
            self._ready = ready

    def _on_item(self, link: Link, item: Connected | Disconnected | Arrived | Answered) -> None:
        if isinstance(item, Connected):
            self._ready, self._seen_change = False, -1
            link.subscribe([ALL_STATES, ALL_REPLIES])
            with self._store.read() as connection:
                self._resend = set(connection.scalars(select(tables.site.c.id)))
                marks = stored_watermarks(connection)
            for topics, mark in marks:
                link.publish(topics.ack, encode(mark), retain=True)
        elif isinstance(item, Disconnected):
            log.warning("fleet: %s", item.why)
        elif isinstance(item, Arrived):
            if item.topic.endswith("/reply"):
                self._on_reply(item)
            else:
                self._on_state(link, item)
        elif item.refused:
            log.error("the broker refused a message of the hub (%s); check its rights", item.refused)

    def _on_state(self, link: Link, item: Arrived) -> None:
        topic = parse_gateway_topic(item.topic)
        if topic is None or not item.payload:
            return
        site, name, _ = topic
        with self._store.write() as connection:
            try:
                state = decode(item.payload, GatewayState)
            except BadMessage as error:
                quarantine(connection, item.topic, Fault(item.payload, str(error)), now_ms())
                return
            number = note_state(connection, site, name, state, now_ms())
            born = number is not None and state.state == "ready"
            marks = stored_watermarks(connection, number) if born else []
        self._ask_again(link, GatewayTopics(site, name), state, dict(marks))
        for topics, mark in marks:
            link.publish(topics.ack, encode(mark), retain=True)
        if born:
            self._seen_change = -1

    def _ask_again(
        self, link: Link, topics: GatewayTopics, state: GatewayState, marks: dict[GatewayTopics, Watermark]
    ) -> None:
        # A gateway that was told more than we hold: this hub was restored from a backup.
        mark = marks.get(topics)
        held = mark.upto if mark and mark.epoch == state.epoch else 0
        if state.state != "ready" or state.acked <= held:
            return
        log.warning("gateway %s/%s was acknowledged more than is here; it is asked again", topics.site, topics.gateway)
        correlation = f"{state.epoch}:{held}".encode()
        command = encode(Command("replay", args={"from": held + 1}))
        link.publish(
            topics.command,
            command,
            expiry_seconds=REPLAY_EXPIRY_SECONDS,
            response_topic=topics.reply,
            correlation=correlation,
        )

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

    def _publish_changes(self, link: Link) -> None:
        with self._store.read() as connection:
            change = last_change(connection)
            if change == self._seen_change:
                return
            sites = connection.execute(select(tables.site.c.id, tables.site.c.key_file)).all()
        for site, key_file in sites:
            try:
                published = refresh(self._store, site, self._signer, Path(key_file), resend=site in self._resend)
            except StoreUnavailable:
                raise
            except TapgateError as error:
                log.error("the roster of site %s cannot be made: %s", site, error)  # noqa: TRY400  # the text says it all
                continue
            if published:
                send(link, published)
            self._resend.discard(site)
        self._seen_change = change


def send(link: Link, published: Published) -> None:
    """Publish a generation: what the manifest names first, the manifest last, then clear what nobody needs."""
    site = published.site
    for name, payload in published.publication.chunks.items():
        link.publish(roster_chunk(site, name), payload, retain=True)
    for (old, new), payload in published.publication.deltas.items():
        link.publish(roster_delta(site, old, new), payload, retain=True)
    link.publish(roster_manifest(site), published.publication.manifest, retain=True)
    for name in published.stale_chunks:
        link.publish(roster_chunk(site, name), b"", retain=True)
    for old, new in published.stale_deltas:
        link.publish(roster_delta(site, old, new), b"", retain=True)
    log.info("roster %d of site %s is published", published.version, site)
