"""The relay: journal to MQTT, and what the hub sends back.

One thread owns the connection. Law of this file: only the hub's watermark, sent after its commit, makes the journal
forget; a confirmation by the broker frees a place in the window and nothing more. Live taps go first. What was there
when the link came up is backlog: it goes on its own topic, many events a message, at the pace of the hub's watermark,
and waits while the hub says that it is away. Nothing of the journal goes before the hub's welcome to this boot's birth
(standing.py). What the disk refuses goes from memory, under numbers of its own (memory_post.py).

Over 400 lines because one thread owns the connection, and its state is one machine.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.access.event import Event, join_events
from gateway.config import BrokerSettings
from gateway.edge.birth import make_state
from gateway.edge.commands import CommandDesk, CommandHandler
from gateway.edge.memory_post import MemoryPost
from gateway.edge.outbox import LIVE, Outbox
from gateway.edge.standing import GOES_ON, STOPPED, Standing
from gateway.errors import BadMessage, JournalFull, JournalWriteFailed, RefusedError, TapgateError
from gateway.journal.journal import Journal
from gateway.link import messages
from gateway.link.client import Arrived, Connected, Disconnected, Link, Published, Will
from gateway.link.messages import GatewayState, HubState, Signed, Watermark
from gateway.link.topics import HUB_STATE, GatewayTopics
from gateway.roster.signing import Trust

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_SETTLE_SECONDS = 0.5
_STOP_SECONDS = 5.0
_REPLY_EXPIRY_SECONDS = 300
_PACKET_MARGIN_BYTES = 512
_EPOCH_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """How the relay does, for the status page.

    Attributes:
        link: `online`, `reconnecting` (short interruptions are not worth a word) or `offline`.
        hub: `ready`, `lost`, or `unknown` when the broker holds no word of the hub.
        waiting: events that the hub does not have.
        rtt_ms: the last time between sending and the broker's confirmation.
        commit_ms: the last time between sending a live tap and the hub's watermark over it.
        refused: why the broker refuses what is sent, None when it does not.
        last_error: why the connection ended last.
        notice: a fork of this journal's history or a second gateway with this id, in one sentence; None without one.
        stopped: nothing is sent because another gateway uses this id.
    """

    link: str
    hub: str
    waiting: int
    backlog: int
    in_flight: int
    oldest_waiting_seconds: float | None
    rtt_ms: float | None
    commit_ms: float | None
    refused: str | None
    last_error: str | None
    sent: int
    resent: int
    last_beat: float
    notice: str | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class _LiveEvent:
    epoch: str
    seq: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Call:
    run: Callable[[], None]


class Relay:
    """Keeps the hub supplied; `start` and `stop` once each, everything else from any thread.

    Args:
        roster_version: returns the generation of the roster in force for the birth message.
        public_key: what the hub checks the journal's checkpoints with.
        trust: whose signature an order to begin a new epoch or to stop needs; without it none is followed.
        now: the time when it is trusted, None while the clock is not set.
        resend_seconds: after which a message without watermark is sent again; doubles up to a minute.
    """

    def __init__(
        self,
        journal: Journal,
        broker: BrokerSettings,
        *,
        gateway_id: str,
        site: str,
        offline_after_seconds: float = 24.0,
        roster_version: Callable[[], int | None] = lambda: None,
        public_key: str = "",
        trust: Trust | None = None,
        now: Callable[[], datetime | None] = lambda: None,
        resend_seconds: float = 10.0,
    ) -> None:
        self._journal = journal
        self._topics = GatewayTopics(site, gateway_id)
        self._roster_version = roster_version
        self._public_key = public_key
        self._offline_after_seconds = offline_after_seconds
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        will = GatewayState("lost", journal.boot)
        # An id alone is not unique in a trust. A hub's broker puts the certificate's name, SITE/GATEWAY, in its place;
        # the demo's refuses a client id with a slash, and ids hold no dots.
        client_id = f"{site}.{gateway_id}"
        self._link = Link(
            broker, client_id, will=Will(self._topics.state, messages.encode(will)), resends=False, inbox=self._inbox
        )
        self._resend_seconds = resend_seconds
        self._outbox = Outbox(journal, resend_seconds)
        self._outbox_epoch = journal.epoch
        self._memory = MemoryPost(journal.unsaved, resend_seconds)
        self._standing = Standing(journal.tinydb.table("standing"), trust, site, gateway_id, time.monotonic)
        self._now = now
        self._desk = CommandDesk(journal.tinydb.table("commands"), self._best_time, self._standing.challenge)
        self._retry_epoch_at = 0.0
        self._desk.register("replay", self._replay, repeatable=True)
        self._desk.register("rebirth", self._rebirth, repeatable=True)
        self._handlers: dict[str, Callable[[Arrived], None]] = {}
        self._kept: dict[str, bytes] = {}
        self._hub = "unknown"
        self._connected = False
        self._disconnected_at = time.monotonic()
        self._last_error: str | None = None
        self._rtt_ms: float | None = None
        self._beat = time.monotonic()
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Connect in the background and go on trying for ever."""
        try:
            self._standing.keep()
        except (JournalFull, JournalWriteFailed) as error:
            log.warning("the witness of this start could not be kept, that of the last one stays: %s", error)
            self._standing.stay()
        self._journal.subscribe(self._on_event)
        self._thread.start()

    def stop(self, grace_seconds: float = _STOP_SECONDS) -> None:
        """Wait a moment for the hub to have the live taps, say goodbye and end."""
        self._inbox.put(_Call(lambda: self._begin_stop(grace_seconds)))
        self._thread.join(grace_seconds + 10)
        self._journal.unsubscribe(self._on_event)

    def on(self, topic: str, handler: Callable[[Arrived], None]) -> None:
        """Subscribe to one exact topic over this connection.

        The handler runs on the relay's thread and must be quick; a TapgateError from it is logged.
        """
        self._inbox.put(_Call(lambda: self._subscribe(topic, handler)))

    def off(self, topic: str) -> None:
        """End the subscription of `on`."""
        self._inbox.put(_Call(lambda: self._unsubscribe(topic)))

    def on_command(self, name: str, handler: CommandHandler) -> None:
        """Have commands of a name done on the relay's thread.

        The handler gets the command's arguments and gives the result for the reply; a TapgateError becomes its error.
        """
        self._inbox.put(_Call(lambda: self._desk.register(name, handler)))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a message that is no event.

        A retained one is kept and sent at every connection; another is dropped while there is none.
        """
        self._inbox.put(_Call(lambda: self._publish(topic, payload, retain)))

    def set_trust(self, trust: Trust) -> None:
        """Take another trust, once the site key that was missing is there; callable from any thread."""
        self._inbox.put(_Call(lambda: setattr(self._standing, "trust", trust)))

    def announce(self) -> None:
        """Publish the birth message again, for instance because another roster is in force."""
        self._inbox.put(_Call(self._birth))

    def status(self) -> RelayStatus:
        stats = self._journal.stats()
        outbox = self._outbox
        return RelayStatus(
            link=self._link_state(),
            hub=self._hub,
            waiting=stats.waiting,
            backlog=outbox.backlog_waiting,
            in_flight=outbox.in_flight,
            oldest_waiting_seconds=stats.oldest_waiting_seconds,
            rtt_ms=self._rtt_ms,
            commit_ms=outbox.commit_ms,
            refused=outbox.refused,
            last_error=self._last_error,
            sent=outbox.sent,
            resent=outbox.resent,
            last_beat=self._beat,
            notice=self._standing.notice,
            stopped=self._standing.state == STOPPED,
        )

    def _link_state(self) -> str:
        if self._connected:
            return "online"
        away = time.monotonic() - self._disconnected_at
        return "reconnecting" if away < self._offline_after_seconds else "offline"

    # From here on everything runs on the relay's thread, but for the journal's callback.

    def _on_event(self, seq: int, raw: bytes, event: Event) -> None:
        self._inbox.put(_LiveEvent(event.epoch, seq, raw))

    def _run(self) -> None:
        self._link.start()
        while not self._stopped():
            now = time.monotonic()
            self._beat = now
            self._link.tend()
            try:
                item = self._inbox.get(timeout=self._outbox.pause_seconds(now, _TICK_SECONDS))
            except queue.Empty:
                item = None
            try:
                while item is not None:
                    self._take(item)
                    item = None if self._inbox.empty() else self._inbox.get()
                self._follow_journal()
                if self._connected and self._standing.wants_birth():
                    self._birth()
                self._pump()
            except Exception:
                log.exception("the relay met a fault of its own; it goes on")
                time.sleep(0.1)
        self._link.close(Will(self._topics.state, messages.encode(self._state("closed"))))

    def _follow_journal(self) -> None:
        # A journal whose folder could not be read at the start turns out to be of another epoch when it can.
        if self._journal.epoch == self._outbox_epoch:
            return
        self._renew_outbox()
        self._standing.renew()
        self._birth()

    def _renew_outbox(self) -> None:
        self._outbox_epoch = self._journal.epoch
        self._outbox = Outbox(self._journal, self._resend_seconds, message_bytes=self._outbox.message_bytes)
        self._outbox.reconnected()

    def _stopped(self) -> bool:
        if self._stop_at is None:
            return False
        is_done = self._outbox.live_done and self._memory.is_empty
        return time.monotonic() >= self._stop_at or not self._connected or is_done

    def _begin_stop(self, grace_seconds: float) -> None:
        self._stop_at = time.monotonic() + grace_seconds
        self._outbox.hold_backlog(float("inf"))

    def _take(self, item: Any) -> None:
        match item:
            case _LiveEvent(epoch, seq, raw):
                if epoch == self._journal.epoch:
                    self._outbox.live(seq, raw, connected=self._connected)
            case Published(mid, refused, _) if self._memory.published(mid, refused, time.monotonic()):
                if refused:
                    log.warning("the broker refuses events from memory: %s", refused)
            case Published(mid, refused, too_large):
                rtt_ms = self._outbox.published(mid, refused, time.monotonic(), too_large=too_large)
                self._rtt_ms = rtt_ms if rtt_ms is not None else self._rtt_ms
            case Arrived():
                self._arrived(item)
            case _Call(run):
                run()
            case Connected():
                self._on_connected(item)
            case Disconnected(why):
                if item.too_large:
                    self._outbox.too_large()
                self._on_disconnected(why)

    def _on_connected(self, item: Connected) -> None:
        log.info("connected to the broker")
        self._connected = True
        self._hub = "unknown"
        self._standing.connected()
        if item.packet_bytes is not None:
            self._outbox.limit(item.packet_bytes - _PACKET_MARGIN_BYTES)
        topics = [self._topics.ack, self._topics.command, HUB_STATE, *self._handlers]
        self._link.subscribe(topics)
        self._birth()
        for topic, payload in self._kept.items():
            self._link.publish(topic, payload, retain=True)
        # The retained watermark and the hub's state come first; the backlog waits for them a moment.
        self._outbox.reconnected()
        self._outbox.hold_backlog(time.monotonic() + _SETTLE_SECONDS)

    def _on_disconnected(self, why: str) -> None:
        if self._connected or why != self._last_error:
            log.warning("%s", why)
        if self._connected:
            self._disconnected_at = time.monotonic()
        self._connected = False
        self._last_error = why
        self._outbox.disconnected()
        self._memory.disconnected()

    def _pump_memory(self) -> None:
        # Not held back until the welcome: these numbers are of this start alone and fork from nothing.
        if not self._connected or self._standing.state == STOPPED:
            return
        now = time.monotonic()
        if events := self._memory.next(now, self._outbox.message_bytes):
            mid = self._link.publish(self._topics.taps, join_events([raw for _, raw in events]))
            if mid is not None:
                self._memory.was_sent(events, mid, now)

    def _pump(self) -> None:
        self._pump_memory()
        if not self._connected or not self._standing.may_send:
            return
        while parcel := self._outbox.next(time.monotonic(), hub_away=self._hub == "lost"):
            topic = self._topics.taps if parcel.kind == LIVE else self._topics.backlog
            raws = self._outbox.raws(parcel)
            if not raws:
                self._outbox.drop(parcel)
                continue
            payload = join_events(raws)
            mid = self._link.publish(topic, payload)
            if mid is None:
                return
            self._outbox.was_sent(parcel, mid, time.monotonic(), len(payload))

    def _arrived(self, message: Arrived) -> None:
        if message.topic == self._topics.ack:
            self._on_watermark(message)
        elif message.topic == self._topics.command:
            self._on_command(message)
        elif message.topic == HUB_STATE:
            self._on_hub_state(message)
        elif handler := self._handlers.get(message.topic):
            try:
                handler(message)
            except TapgateError as error:
                log.warning("a message on %s was not used: %s", message.topic, error)

    def _on_watermark(self, message: Arrived) -> None:
        if not message.payload:
            return
        try:
            mark = messages.decode(message.payload, Watermark)
        except BadMessage as error:
            log.warning("a watermark was ignored: %s", error)
            return
        if not self._standing.believes(mark):
            if self._standing.doubt():
                self._birth()
            return
        if mark.epoch == self._memory.epoch:
            self._memory.watermark(mark.upto, mark.have)
            return
        if mark.epoch != self._journal.epoch:
            log.info("a watermark of another journal (epoch %s) was left alone", mark.epoch)
            return
        is_ours = self._speaks_of_ours(mark)
        if is_ours:
            for rejected in mark.rejected:
                log.warning("the hub set event %s aside: %s", rejected.seq, rejected.why)
            self._outbox.watermark(mark.upto, mark.have, time.monotonic())
        if mark.welcome is not None and not message.retained and self._on_welcome(mark.welcome, is_ours):
            return
        if not is_ours and self._standing.dispute(mark.upto):
            log.warning("the hub holds another event %s than this journal; it is asked again", mark.upto)
            self._birth()

    def _speaks_of_ours(self, mark: Watermark) -> bool:
        may_leap = not mark.link and self._standing.may_leap
        if mark.upto > self._journal.head and not mark.link and not may_leap:
            # Nothing to compare, and nothing that counts: an older hub's word, or nobody's.
            self._journal.acknowledge(mark.upto, mark.have)
            return True
        return self._journal.acknowledge(mark.upto, mark.have, link=mark.link, may_leap=may_leap)

    def _on_welcome(self, signed: Signed, is_ours: bool) -> bool:
        """Follow the hub's answer to the birth; tell whether it was an order."""
        was = self._standing.state
        try:
            order = self._standing.answered(signed, self._journal.epoch, is_ours=is_ours)
        except BadMessage as error:
            log.warning("a welcome was ignored: %s", error)
            return False
        if order is not None and order.verdict == "fork":
            self._begin_epoch(order.at)
        elif was != self._standing.state:
            self._link.be_patient(self._standing.state == STOPPED)
            if self._standing.state == GOES_ON and was == STOPPED:
                self._outbox.reconnected()
        return order is not None

    def _begin_epoch(self, after: int) -> None:
        if time.monotonic() < self._retry_epoch_at:
            return
        old_epoch, old_head = self._journal.epoch, self._journal.head
        try:
            head = self._journal.begin_epoch(after)
        except (JournalFull, JournalWriteFailed) as error:
            # Nothing was changed and nothing is sent; the next welcome tries again.
            log.warning("the events after %s could not be written into a new epoch: %s", after, error)
            self._retry_epoch_at = time.monotonic() + _EPOCH_RETRY_SECONDS
            return
        self._renew_outbox()
        self._standing.forked(after, old_epoch, head, self._journal.epoch)
        log.info("%s of %s events moved on to epoch %s", head, old_head, self._journal.epoch)
        self._birth()

    def _on_hub_state(self, message: Arrived) -> None:
        if not message.payload:
            self._hub = "unknown"
            return
        try:
            heard = messages.decode(message.payload, HubState)
        except BadMessage as error:
            log.warning("the hub's state was ignored: %s", error)
            return
        state = heard.state
        self._standing.hub_heard(welcoming=heard.claim is not None)
        if state == "ready" and self._hub == "lost":
            self._outbox.hub_is_back(time.monotonic())
        self._hub = state

    def _on_command(self, message: Arrived) -> None:
        reply = self._desk.handle(message)
        if reply is not None:
            self._link.publish(
                message.response_topic or self._topics.reply,
                messages.encode(reply),
                correlation=message.correlation,
                expiry_seconds=_REPLY_EXPIRY_SECONDS,
            )

    def _replay(self, args: dict[str, Any]) -> dict[str, Any]:
        first = args.get("from")
        if type(first) is not int or first < 1:
            raise RefusedError("replay needs `from`, the number of the first event wanted.")
        last = args.get("to")
        if last is not None and (type(last) is not int or last < first):
            raise RefusedError("the `to` of a replay is the number of the last event wanted.")
        epoch = args.get("epoch", self._journal.epoch)
        if epoch != self._journal.epoch:
            raise RefusedError(f"This journal is of epoch {self._journal.epoch}; its numbers are others.")
        first = max(first, self._journal.oldest)
        self._outbox.replay(first, last)
        return {"from": first, "to": self._journal.head if last is None else last}

    def _rebirth(self, _args: dict[str, Any]) -> None:
        self._birth()

    def _birth(self) -> None:
        if self._connected:
            self._standing.born()
            self._link.publish(self._topics.state, messages.encode(self._state("ready")), retain=True)

    def _state(self, word: Literal["ready", "closed"]) -> GatewayState:
        return make_state(word, self._journal, self._standing, self._roster_version(), self._public_key)

    def _best_time(self) -> datetime | None:
        now = self._now()
        hub_ms = self._standing.hub_ms()
        return datetime.fromtimestamp(hub_ms / 1000, UTC) if now is None and hub_ms is not None else now

    def _subscribe(self, topic: str, handler: Callable[[Arrived], None]) -> None:
        self._handlers[topic] = handler
        if self._connected:
            self._link.subscribe([topic])

    def _unsubscribe(self, topic: str) -> None:
        if self._handlers.pop(topic, None) and self._connected:
            self._link.unsubscribe([topic])

    def _publish(self, topic: str, payload: bytes, retain: bool) -> None:
        if retain:
            self._kept[topic] = payload
        if self._connected:
            self._link.publish(topic, payload, retain=retain)
