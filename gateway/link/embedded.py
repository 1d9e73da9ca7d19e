"""A broker inside the product, for the demo and for tests: iotcore (rumqttd in a wheel), on 127.0.0.1 only.

It keeps everything in memory, knows no access rules per topic and lets anybody in, so it refuses any other address. A
school runs mosquitto. The broker is a child process that ends with its parent.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.config import BrokerSettings
from gateway.errors import FatalError, LinkDown, MissingExtra

LOOPBACK = "127.0.0.1"
_START_SECONDS = 10.0
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

    def stop(self) -> None:
        """End the broker; everything it held is gone. May be called twice."""
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
