"""Ingest from RabbitMQ: gateways publish MQTT, two quorum queues keep it on several nodes, workers take it by AMQP.

RabbitMQ's MQTT plug-in hands `tapgate/v1/SITE/GATEWAY/taps` to the exchange amq.topic with dots for slashes, which is
why ids contain neither. Live and backlog have a queue and a channel each, so a drain never delays live taps. Watermarks
go back over MQTT, because only there can they be retained. Gateways speak MQTT 5: RabbitMQ 3.13 or later; with
`mqtt.durable_queue_type = quorum` their sessions also survive the loss of a node.
"""

from __future__ import annotations

import importlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.config import BrokerSettings
from gateway.errors import MissingExtra
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.engine import (
    BACKLOG_BYTES,
    BACKLOG_WINDOW,
    BATCH_BYTES,
    BATCH_MESSAGES,
    LIVE_WINDOW,
    Outgoing,
    commit_until_done,
)
from gateway.hub.ingest.parse import Incoming
from gateway.hub.ingest.seals import Seal, unsealed
from gateway.hub.store.engine import now_ms
from gateway.link.client import Connected, Link
from gateway.link.topics import ALL_BACKLOG, ALL_TAPS

log = logging.getLogger(__name__)

EXCHANGE = "amq.topic"
QUEUES = {"live": ("tapgate.live", ALL_TAPS), "backlog": ("tapgate.backlog", ALL_BACKLOG)}
_WINDOWS = {"live": LIVE_WINDOW, "backlog": BACKLOG_WINDOW}
_LIMITS = {"live": BATCH_BYTES, "backlog": BACKLOG_BYTES}
_IDLE_SECONDS = 1.0
_RECONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Delivery:
    tag: int
    incoming: Incoming


def binding_of(topic: str) -> str:
    """Return the AMQP binding of an MQTT filter: dots for slashes, `*` for one level."""
    return topic.replace("/", ".").replace("+", "*")


class AmqpQuorum:
    """One ingest worker.

    Args:
        amqp_url: such as amqp://user:password@host:5672/%2F, of several nodes with commas between, the first that
            answers is taken; it is never logged. A comma in a password is written %2C.
        broker: the same RabbitMQ as MQTT, all its nodes, for the watermarks.
        worker: stable over restarts and different for each worker.
        fence: returns why no events may be taken now, None when they may; called about once a second.
        beat: called whenever the loop turns; feeds the watchdog.
        on_commit: called after every durable commit; must not wait and must not raise.
        seal: adds the hub's signature to a watermark.

    Raises:
        MissingExtra: pika is not installed.
    """

    def __init__(
        self,
        amqp_url: str,
        broker: BrokerSettings,
        worker: str,
        committer: Committer,
        *,
        fence: Callable[[], str | None] = lambda: None,
        beat: Callable[[], None] = lambda: None,
        on_commit: Callable[[Committed], None] = lambda _committed: None,
        seal: Seal = unsealed,
    ) -> None:
        self._fence = fence
        self._fence_at = 0.0
        try:
            self._pika: Any = importlib.import_module("pika")
        except ModuleNotFoundError:
            raise MissingExtra("The AMQP ingest needs pika; install tapgate[amqp].") from None
        # It logs a dozen steps of each connection at INFO; _run logs what fails.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._parameters = [self._pika.URLParameters(url.strip()) for url in amqp_url.split(",")]
        self._committer, self._beat, self._on_commit = committer, beat, on_commit
        self._link = Link(broker, f"{worker}-marks", session_expiry_seconds=0)
        self._outgoing = Outgoing(seal)
        self._waiting: dict[str, deque[_Delivery]] = {label: deque() for label in QUEUES}
        self._consuming = self._cancelled = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    @property
    def connected(self) -> bool:
        return self._consuming and self._link.connected

    def start(self) -> None:
        self._link.start()
        self._thread.start()

    def stop(self) -> None:
        """Finish the commit under way, then leave; what was not acknowledged is redelivered to another worker."""
        self._stopping.set()
        self._thread.join(30)
        self._link.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._beat()
            try:
                if (why := self._fence()) is None:
                    self._serve()
                else:
                    log.warning("the ingest takes nothing: %s", why)
            except (self._pika.exceptions.AMQPError, OSError) as error:
                log.warning("RabbitMQ: %s; next try in %.0f s", type(error).__name__, _RECONNECT_SECONDS)
            except Exception:
                # Nothing under way is acknowledged: RabbitMQ redelivers it.
                log.exception("the ingest failed unexpectedly; it continues")
            finally:
                self._consuming = False
                for waiting in self._waiting.values():
                    # Unacknowledged deliveries of a closed connection are redelivered on the next one.
                    waiting.clear()
            self._stopping.wait(_RECONNECT_SECONDS)

    def _serve(self) -> None:
        connection = self._pika.BlockingConnection(self._parameters)
        try:
            self._cancelled = False
            channels = {label: self._consume(connection, label) for label in QUEUES}
            self._consuming = True
            while not self._stopping.is_set():
                self._beat()
                if time.monotonic() - self._fence_at > _IDLE_SECONDS:
                    self._fence_at = time.monotonic()
                    if self._fence() is not None:
                        return
                self._flush()
                connection.process_data_events(time_limit=0 if any(self._waiting.values()) else _IDLE_SECONDS)
                if self._cancelled or not all(channel.is_open for channel in channels.values()):
                    # pika does not report a channel or consumer that the broker closed while the connection stays open.
                    raise self._pika.exceptions.ConsumerCancelled
                self._commit(channels)
        finally:
            if connection.is_open:
                connection.close()

    def _consume(self, connection: Any, label: str) -> Any:
        name, topic = QUEUES[label]
        channel = connection.channel()
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(name, EXCHANGE, binding_of(topic))
        channel.basic_qos(prefetch_count=_WINDOWS[label])

        def take(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            topic = method.routing_key.replace(".", "/")
            self._waiting[label].append(_Delivery(method.delivery_tag, Incoming(topic, body, now_ms())))

        def cancelled(_frame: Any) -> None:
            self._cancelled = True

        channel.add_on_cancel_callback(cancelled)
        channel.basic_consume(name, take)
        return channel

    def _commit(self, channels: dict[str, Any]) -> None:
        batch: list[Incoming] = []
        newest: dict[str, int] = {}
        size = 0
        for label, waiting in self._waiting.items():
            while waiting and len(batch) < BATCH_MESSAGES and size < _LIMITS[label]:
                delivery = waiting.popleft()
                batch.append(delivery.incoming)
                newest[label] = delivery.tag
                size += len(delivery.incoming.payload)
        if not batch:
            return
        committed = commit_until_done(self._committer, batch, self._stopping, self._beat)
        if committed is None:
            return
        for label, tag in newest.items():
            # Each channel has its own numbering and is emptied in order, so one ack covers the whole batch.
            channels[label].basic_ack(tag, multiple=True)
        self._outgoing.add(committed.watermarks)
        self._flush()
        self._on_commit(committed)

    def _flush(self) -> None:
        try:
            while True:
                item = self._link.inbox.get_nowait()
                if not isinstance(item, Connected):
                    log.debug("watermarks: %s", item)
        except queue.Empty:
            self._outgoing.flush(self._link)
