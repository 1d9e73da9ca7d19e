"""A broker inside the product, for the demo and for tests: iotcore (rumqttd in a wheel), on 127.0.0.1 only.

It keeps everything in memory, knows no access rules per topic and lets anybody in, so it refuses any other address. A
school runs mosquitto. The broker is a child process that ends with its parent. rumqttd 0.20 stops serving for good when
a member of a shared subscription falls silent (its router ends with `group must exists`), so it is asked for a
connection every few seconds and started again when it gives none; gateways and hub lose nothing by that.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.config import BrokerSettings
from gateway.errors import FatalError, LinkDown, MissingExtra

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_START_SECONDS = 10.0
_LOOK_SECONDS = 2.0
_ANSWER_SECONDS = 3.0
# MQTT 5 CONNECT (section 3.1): protocol MQTT, version 5, clean start, keep-alive 10 s, no properties, client `watch`.
_CONNECT = b"\x10\x12\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x05watch"
_CONNACK, _DISCONNECT = 0x20, b"\xe0\x00"
# rumqttd speaks MQTT 5 only on a listener of its own kind; the outgoing limits are per connection.
_TOML = """\
id = 0
[router]
id = 0
max_connections = 1010
max_outgoing_packet_count = 1000
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


class EmbeddedBroker:
    """An MQTT 5 broker on 127.0.0.1 that ends with this process.

    Args:
        port: 0 draws a free one.

    Raises:
        FatalError: the host is not 127.0.0.1.
    """

    def __init__(self, port: int = 0, host: str = LOOPBACK) -> None:
        if host != LOOPBACK:
            raise FatalError(
                f"The embedded broker lets anybody in and serves {LOOPBACK} only, not {host}; run mosquitto instead."
            )
        self.port = port
        self._broker: Any = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def settings(self) -> BrokerSettings:
        """Return what a client needs to connect."""
        return BrokerSettings(host=LOOPBACK, port=self.port, tls=False)

    @property
    def url(self) -> str:
        return f"mqtt://{LOOPBACK}:{self.port}"

    @property
    def running(self) -> bool:
        return self._broker is not None and bool(self._broker.is_running)

    def start(self) -> None:
        """Start the broker and wait until it accepts connections.

        Raises:
            MissingExtra: the package iotcore is not installed.
            LinkDown: the port is taken or the broker does not come up.
        """
        try:
            iotcore = importlib.import_module("iotcore")
        except ImportError as error:
            raise MissingExtra(
                "The embedded broker needs the package iotcore; install the extra `demo` or name a broker."
            ) from error
        self.port = self.port or _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="tapgate-broker-")
        file = Path(self._folder.name) / "rumqttd.toml"
        file.write_text(_TOML.format(host=LOOPBACK, port=self.port), encoding="utf-8")
        try:
            self._broker = iotcore.Broker(config_path=str(file))
            self._broker.start(timeout=_START_SECONDS)
        except (OSError, RuntimeError, ValueError) as error:
            self.stop()
            raise LinkDown(f"The embedded broker cannot serve {LOOPBACK}:{self.port} ({error}).") from error
        self._stopping = threading.Event()
        threading.Thread(target=self._keep_alive, args=(self._stopping,), name="embedded broker", daemon=True).start()

    def _keep_alive(self, stopping: threading.Event) -> None:
        while not stopping.wait(_LOOK_SECONDS):
            if self._answers() or self._answers():
                continue
            with self._lock:
                if self._broker is None:
                    return
                log.warning("the embedded broker does not answer and is started again; nothing is lost by that")
                try:
                    _end(self._broker)
                    self._broker.start(timeout=_START_SECONDS)
                except (OSError, RuntimeError) as error:
                    log.warning("the embedded broker did not start: %s", error)

    def _answers(self) -> bool:
        """Tell whether the broker lets a client in."""
        try:
            with socket.create_connection((LOOPBACK, self.port), _ANSWER_SECONDS) as probe:
                probe.settimeout(_ANSWER_SECONDS)
                probe.sendall(_CONNECT)
                is_in = probe.recv(1)[:1] == bytes([_CONNACK])
                probe.sendall(_DISCONNECT)
                return is_in
        except OSError:
            return False

    def stop(self) -> None:
        """End the broker; everything it held is gone. May be called twice."""
        self._stopping.set()
        with self._lock:
            broker, self._broker = self._broker, None
        if broker is not None:
            with contextlib.suppress(OSError):
                broker.stop()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end(broker: Any) -> None:
    # A broker that hangs does not hear a request to stop.
    if broker._process is not None:  # noqa: SLF001  # iotcore offers no other way to kill it
        broker._process.kill()  # noqa: SLF001  # see above
    broker.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
