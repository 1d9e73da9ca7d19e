"""One MQTT 5 connection: paho behind an inbox.

paho calls back on its own thread, in places while it holds its own locks, and a callback that raises ends that thread.
So the callbacks here do one thing only: they put a value into the inbox. One owner thread reads the inbox and is the
only one that publishes, subscribes and acknowledges.

Over 400 lines because paho calls back into one object, and each callback needs its state.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.config import BrokerSettings
from gateway.errors import FatalError
from gateway.link.causes import why_ended_early, why_not_connected

log = logging.getLogger(__name__)

WINDOW = 20
KEEPALIVE_SECONDS = 20
MAX_PACKET_BYTES = 1 << 20
# Unsupported protocol version, in MQTT 5 (section 3.2.2.2) and as MQTT 3.1.1 says it (section 3.2.2.3).
_NO_MQTT_5 = frozenset({132, 1})
_PACKET_TOO_LARGE = 149
_PROTOCOL_ERROR = 130
_TAKEN_OVER = 142
_UNSPECIFIED = 128
_FIRST_BYTES = 16
_SHORT_SECONDS, _SHORT_LIVES = 30.0, 2
# Two machines with one client id throw each other out; each comes back so late that the broker has rest between.
_PATIENT_DELAYS = (30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection stands; subscribe and announce now, whatever `session_present` says.

    Attributes:
        packet_bytes: the largest packet that the broker takes, None when it names no limit.
    """

    generation: int
    session_present: bool
    packet_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended or could not be made; the client goes on trying.

    Attributes:
        too_large: it may have ended over the size of a message: the broker said so, or gave an answer that paho does
            not know, as mosquitto 2.0 does for a message above its `message_size_limit`.
    """

    why: str
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message came in; `generation` and `mid` are needed to acknowledge it."""

    topic: str
    payload: bytes
    retained: bool
    qos: int
    mid: int
    generation: int
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """The broker answered a publish; `refused` is None or its reason in words."""

    mid: int
    refused: str | None
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The broker sends nothing more for an `unsubscribe`; what is on its way may still arrive."""


InboxItem = Connected | Disconnected | Arrived | Published | Unsubscribed


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes


class _Client(paho.Client):
    """paho, whose thread outlives what it does not expect, and which knows why a connection ended.

    Attributes:
        error: what reading raised last on this connection.
        first_bytes: what came first on it.
        was_refused: the broker answered on it and said no.
        ended: called on paho's thread with what would have ended it.
    """

    error: BaseException | None = None
    first_bytes = b""
    was_refused = False
    ended: Callable[[BaseException], None]

    @property
    def is_running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def reconnect(self) -> MQTTErrorCode:
        self.error, self.first_bytes, self.was_refused = None, b"", False
        return super().reconnect()

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            data = super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self.error = error
            raise
        if len(self.first_bytes) < _FIRST_BYTES:
            self.first_bytes += data[: _FIRST_BYTES - len(self.first_bytes)]
        return data

    def _thread_main(self) -> None:
        # paho's own ends for good on a packet that is not MQTT, or a host name that no resolver takes.
        try:
            while True:
                try:
                    self.loop_forever(retry_first_connection=True)
                except Exception as error:
                    log.exception("the connection to the broker met what paho does not expect")
                    self._sock_close()
                    self.ended(error)
                    self._reconnect_wait()
                    if self._thread_terminate:
                        return
                else:
                    return
        finally:
            self._thread = None


class Link:
    """An MQTT 5 client that keeps connecting with jitter until closed; each try goes to the next node of the cluster.

    Args:
        client_id: stable over restarts; the broker's session hangs on it.
        manual_ack: when True every Arrived with QoS 1 must be given to `ack` after it was made durable.
        resends: whether what the broker did not confirm is sent again on the next connection; False for an owner that
            does so by itself.
        receive_maximum: how many unacknowledged messages the broker may send; the back-pressure.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        client_id: str,
        *,
        will: Will | None = None,
        manual_ack: bool = False,
        receive_maximum: int = 100,
        session_expiry_seconds: int = 7 * 86400,
        resends: bool = True,
        inbox: queue.SimpleQueue[Any] | None = None,
    ) -> None:
        self.inbox: queue.SimpleQueue[Any] = inbox or queue.SimpleQueue()
        self.connected = False
        self._generation = 0
        self._broker = broker
        self._node = self._failed = 0
        self._closing = False
        self._receive_maximum = receive_maximum
        self._session_expiry_seconds = session_expiry_seconds
        self._resends = resends
        self._connected_at, self._shorts = 0.0, 0
        client = _Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=manual_ack)
        client.ended = self._on_thread_fault
        client.max_inflight_messages_set(WINDOW)
        # paho doubles this delay without jitter; drawing the bounds keeps a thousand gateways from returning together.
        self._delays = random.uniform(0.5, 2.0), random.uniform(15, 30)
        client.reconnect_delay_set(*self._delays)  # type: ignore[arg-type]  # seconds; paho sleeps on them as they are
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_open = _send_at_once
        if will:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        _authenticate(client, broker)
        self._client = client

    def start(self) -> None:
        """Start connecting in the background; the result arrives in the inbox."""
        self._aim()
        self._client.loop_start()

    def tend(self) -> None:
        """Start paho's thread again where it ended; call it now and then from the owner's thread."""
        if self._closing or self._client.is_running:
            return
        log.error("the network thread of the connection to the broker had ended; it is started again")
        self.connected = False
        self._aim()
        self._client.loop_stop()
        self._client.loop_start()

    def _on_thread_fault(self, error: BaseException) -> None:
        # On paho's own thread, which goes on with a new connection after a pause.
        place = self._place
        was_connected, self.connected = self.connected, False
        self._forget_unconfirmed()
        if was_connected or self._client.first_bytes:
            why = (
                f"the broker at {place} sent what is no MQTT 5 ({type(error).__name__}: {error}); the connection is "
                "made anew; look at the broker, or at what stands between"
            )
        else:
            why = why_not_connected(error, place, tls=self._broker.tls)
        self.inbox.put(Disconnected(why))
        if not self._closing:
            self._aim_at_next()

    def _aim(self) -> None:
        host, port = self._broker.places[self._node]
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._session_expiry_seconds
        properties.ReceiveMaximum = self._receive_maximum
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        # A session that lives on a dead node can hold its client at every other node, so the second try does without
        # it: what matters in it is retained, or comes again.
        clean = self._failed > 1
        self._client.connect_async(host, port, KEEPALIVE_SECONDS, clean_start=clean, properties=properties)

    def _aim_at_next(self) -> None:
        # On paho's own thread between two connections, the one moment at which it takes another address.
        if self._closing or len(self._broker.places) == 1:
            return
        self._node = (self._node + 1) % len(self._broker.places)
        self._failed += 1
        self._aim()

    def be_patient(self, patient: bool) -> None:
        """Wait half a minute and longer before each new connection, or no longer than usual again."""
        low, high = (random.uniform(*_PATIENT_DELAYS),) * 2 if patient else self._delays
        self._client.reconnect_delay_set(low, high)  # type: ignore[arg-type]  # as in __init__

    def subscribe(self, topics: list[str]) -> None:
        """Subscribe at QoS 1; the broker sends retained messages at once."""
        self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])

    def unsubscribe(self, topics: list[str]) -> None:
        self._client.unsubscribe(topics)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_seconds: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> int | None:
        """Publish at QoS 1.

        Returns:
            The message id that a later Published names, None while there is no connection: paho would queue in memory,
            and the journal is the only queue.
        """
        if not self.connected:
            return None
        properties = _properties(PacketTypes.PUBLISH)
        if expiry_seconds is not None:
            properties.MessageExpiryInterval = expiry_seconds
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        if correlation is not None:
            properties.CorrelationData = correlation
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return info.mid if info.rc == paho.MQTT_ERR_SUCCESS else None

    def ack(self, message: Arrived) -> None:
        """Acknowledge a message of a manual_ack link; one from before a reconnect is left alone, it will come again."""
        if message.qos and message.generation == self._generation:
            self._client.ack(message.mid, message.qos)

    def close(self, farewell: Will | None = None) -> None:
        """Say goodbye and stop; a clean goodbye suppresses the will, so the farewell replaces it."""
        if farewell and self.connected:
            info = self._client.publish(farewell.topic, farewell.payload, qos=1, retain=True)
            try:
                info.wait_for_publish(2.0)
            except (RuntimeError, ValueError) as error:
                log.debug("the farewell was not confirmed: %s", error)
        self._closing = True
        self._client.disconnect()
        self._client.loop_stop()
        self.connected = False

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        if code.is_failure:
            self._client.was_refused = True
            hint = "; it must speak MQTT 5" if code.value in _NO_MQTT_5 else ""
            self.inbox.put(Disconnected(f"the broker refused the connection: {code}{hint}"))
            return
        self._generation += 1
        self._failed = 0
        self._connected_at = time.monotonic()
        self.connected = True
        packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self.inbox.put(Connected(self._generation, bool(flags.session_present), packet_bytes))

    @property
    def _place(self) -> str:
        host, port = self._broker.places[self._node]
        return f"{host}:{port}"

    def _on_connect_fail(self, _client: Any, _data: Any) -> None:
        # paho calls this while it handles the exception of the attempt.
        self.inbox.put(Disconnected(why_not_connected(sys.exception(), self._place, tls=self._broker.tls)))
        self._aim_at_next()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        was_connected, self.connected = self.connected, False
        client = self._client
        if code.value == _TAKEN_OVER:
            why = (
                "the connection to the broker ended: another gateway uses the same id and took the session over; give "
                "one of them an id of its own"
            )
        elif was_connected:
            why = f"the connection to the broker ended: {_in_words(code, client.error)}{self._short_lives()}"
        elif client.was_refused:
            why = ""  # told with the broker's answer already
        else:
            why = why_ended_early(client.error, client.first_bytes, self._place, tls=self._broker.tls)
        self._forget_unconfirmed()
        if why:
            self.inbox.put(Disconnected(why, too_large=code.value in {_PACKET_TOO_LARGE, _PROTOCOL_ERROR}))
        self._aim_at_next()

    def _short_lives(self) -> str:
        # Some brokers throw the older of two clients with one id out without a word.
        lived = time.monotonic() - self._connected_at
        self._shorts = self._shorts + 1 if lived < _SHORT_SECONDS else 0
        return "" if self._shorts < _SHORT_LIVES else "; it ends soon each time: another gateway may use the same id"

    def _forget_unconfirmed(self) -> None:
        if self._resends:
            return
        # paho would send them again by itself, also the very one that ended the connection.
        with self._client._out_message_mutex:  # noqa: SLF001  # paho has no other way to forget them
            self._client._out_messages.clear()  # noqa: SLF001  # as above
            self._client._inflight_messages = 0  # noqa: SLF001  # as above

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # MQTT 5 section 1.5.4 forbids it; one such message must not keep all others away.
            log.warning("the broker sent a message whose topic is not UTF-8; it is left alone")
            if message.qos:
                self._client.ack(message.mid, message.qos)
            return
        self.inbox.put(
            Arrived(
                topic,
                bytes(message.payload),
                bool(message.retain),
                message.qos,
                message.mid,
                self._generation,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        too_large = code.value == _PACKET_TOO_LARGE
        self.inbox.put(Published(mid, str(code) if code.is_failure else None, too_large=too_large))

    def _on_unsubscribe(self, _client: Any, _data: Any, _mid: int, _codes: Any, _properties: Any) -> None:
        self.inbox.put(Unsubscribed())


def _send_at_once(_client: Any, _data: Any, connection: Any) -> None:
    # Nagle and delayed acknowledgement together hold small packets back for 40 ms.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _in_words(code: ReasonCode, error: BaseException | None) -> str:
    if error is not None:
        return str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return "it was cut" if code.value == _UNSPECIFIED else str(code)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves this one function untyped


def _authenticate(client: paho.Client, broker: BrokerSettings) -> None:
    if broker.tls:
        try:
            context = ssl.create_default_context(cafile=str(broker.ca_file) if broker.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise FatalError(f"The broker's CA file {broker.ca_file} cannot be used ({error}).") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert_file:
            try:
                context.load_cert_chain(str(broker.cert_file), str(broker.key_file) if broker.key_file else None)
            except (OSError, ssl.SSLError) as error:
                raise FatalError(f"The client certificate {broker.cert_file} cannot be used ({error}).") from None
        client.tls_set_context(context)
    if broker.username:
        try:
            password = broker.password_file.read_text(encoding="utf-8").strip() if broker.password_file else None
        except OSError as error:
            raise FatalError(f"The broker's password file cannot be read ({error}).") from None
        client.username_pw_set(broker.username, password)
