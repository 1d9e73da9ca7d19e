from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from gateway.errors import FatalError, LinkDown
from gateway.link.client import Arrived, Connected, Link
from gateway.link.embedded import EmbeddedBroker


@pytest.mark.parametrize("host", ["0.0.0.0", "", "localhost", "::1", "192.168.1.4"])
def test_the_embedded_broker_refuses_every_address_but_127_0_0_1(host: str) -> None:
    with pytest.raises(FatalError, match="mosquitto"):
        EmbeddedBroker(host=host)


def test_it_listens_on_127_0_0_1_only_and_is_gone_afterwards() -> None:
    with EmbeddedBroker() as broker:
        assert broker.running
        listening = [
            line.split()[1]
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]
            if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == broker.port
        ]
        assert [address.split(":")[0] for address in listening] == ["0100007F"]
    assert not broker.running
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", broker.port), 0.5)


def test_a_taken_port_is_told_in_one_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(LinkDown, match="cannot serve"):
            EmbeddedBroker(other.getsockname()[1]).start()


def test_a_retained_message_of_50_events_goes_through_it() -> None:
    payload = b"[" + b",".join([b'"' + b"x" * 16_000 + b'"'] * 50) + b"]"
    with EmbeddedBroker() as broker:
        link = Link(broker.settings, "gw-canteen")
        link.start()
        assert isinstance(link.inbox.get(timeout=10), Connected)
        link.publish("tapgate/v1/a/b/taps", payload, retain=True)
        link.subscribe(["tapgate/v1/a/b/taps"])
        while not isinstance(item := link.inbox.get(timeout=10), Arrived):
            pass
        link.close()
    assert item.payload == payload


def _connects(broker: EmbeddedBroker, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if broker._answers():
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_broker_that_hangs_or_died_is_started_again_on_its_port(number: signal.Signals) -> None:
    with EmbeddedBroker() as broker:
        port = broker.port
        broker._broker._process.send_signal(number)
        assert not broker._answers()
        assert _connects(broker, 30)
        assert broker.port == port
