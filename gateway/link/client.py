"""One MQTT 5 connection: paho behind an inbox.

paho calls back on its own thread, in places while it holds its own locks, and a callback that raises ends that thread.
So the callbacks here do one thing only: they put a value into the inbox. One owner thread reads the inbox and is the
only one that publishes, subscribes and acknowledges.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import socket
import ssl
import sys
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.config import BrokerSettings
from gateway.errors import FatalError

log = logging.getLogger(__name__)

WINDOW = 20
KEEPALIVE_SECONDS = 20
MAX_PACKET_BYTES = 1 << 20
# Unsupported protocol version, in MQTT 5 (section 3.2.2.2) and as MQTT 3.1.1 says it (section 3.2.2.3).
_NO_MQTT_5 = frozenset({132, 1})
_PACKET_TOO_LARGE = 149
_PROTOCOL_ERROR = 130
_TAKEN_OVER = 142
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
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=manual_ack)
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
            hint = "; it must speak MQTT 5" if code.value in _NO_MQTT_5 else ""
            self.inbox.put(Disconnected(f"the broker refused the connection: {code}{hint}"))
            return
        self._generation += 1
        self._failed = 0
        self.connected = True
        packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self.inbox.put(Connected(self._generation, bool(flags.session_present), packet_bytes))

    def _on_connect_fail(self, _client: Any, _data: Any) -> None:
        host, port = self._broker.places[self._node]
        place = f"{host}:{port}"
        # paho calls this while it handles the exception of the attempt.
        error = sys.exception()
        if isinstance(error, ssl.SSLError):
            self.inbox.put(Disconnected(f"the broker at {place} and this gateway do not trust each other ({error})"))
        else:
            self.inbox.put(Disconnected(f"no broker answers at {place}"))
        self._aim_at_next()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self.connected = False
        hint = "; another client uses this id" if code.value == _TAKEN_OVER else ""
        why = f"the connection to the broker ended: {code}{hint}"
        if not self._resends:
            # paho would send them again by itself, also the very one that ended the connection.
            with self._client._out_message_mutex:  # noqa: SLF001  # paho has no other way to forget them
                self._client._out_messages.clear()  # noqa: SLF001  # as above
                self._client._inflight_messages = 0  # noqa: SLF001  # as above
        self.inbox.put(Disconnected(why, too_large=code.value in {_PACKET_TOO_LARGE, _PROTOCOL_ERROR}))
        self._aim_at_next()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self.inbox.put(
            Arrived(
                message.topic,
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
