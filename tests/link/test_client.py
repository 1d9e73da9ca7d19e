from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import BrokerSettings
from gateway.errors import FatalError
from gateway.link.client import Arrived, Connected, Disconnected, Link, Published, Will
from tests.brokers import Iotcore, Mosquitto, free_port, needs_mosquitto

Broker = Mosquitto | Iotcore


def wait_for(link: Link, kind: type[Any], fits: Callable[[Any], bool] = lambda _: True) -> Any:
    deadline = time.monotonic() + 20
    while True:
        try:
            item = link.inbox.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no {kind.__name__} came") from None
        if isinstance(item, kind) and fits(item):
            return item


def linked(broker: Broker, name: str, **options: Any) -> Link:
    link = Link(broker.settings, name, **options)
    link.start()
    wait_for(link, Connected)
    return link


def pull_the_cable(link: Link) -> None:
    connection = link._client.socket()
    assert connection is not None
    connection.shutdown(socket.SHUT_RDWR)


def test_response_topic_and_correlation_travel_with_a_message(broker: Broker) -> None:
    link = linked(broker, "gw-a")
    link.subscribe(["a/command"])
    link.publish("a/command", b"1", response_topic="a/reply", correlation=b"c-1", expiry_seconds=60)
    message = wait_for(link, Arrived)
    link.close()
    assert (message.response_topic, message.correlation) == ("a/reply", b"c-1")


def test_nothing_is_queued_in_memory_while_there_is_no_connection() -> None:
    link = Link(BrokerSettings("127.0.0.1", free_port(), tls=False), "gw-a")
    assert link.publish("a/b", b"1") is None
    link.start()
    assert "no broker answers" in wait_for(link, Disconnected).why
    assert link.publish("a/b", b"1") is None
    link.close()


def test_the_will_speaks_when_the_connection_breaks_and_the_farewell_when_it_is_closed(broker: Broker) -> None:
    watcher = linked(broker, "watcher")
    watcher.subscribe(["a/state"])
    link = linked(broker, "gw-a", will=Will("a/state", b"lost"))
    pull_the_cable(link)
    assert wait_for(watcher, Arrived).payload == b"lost"
    wait_for(link, Connected)
    link.close(Will("a/state", b"closed"))
    assert wait_for(watcher, Arrived).payload == b"closed"
    watcher.close()


def test_an_unacknowledged_message_comes_again_after_a_reconnect(broker: Broker) -> None:
    hub = linked(broker, "hub-0", manual_ack=True)
    hub.subscribe(["a/taps", "a/ready"])
    # What a connection says comes in order: when its own word is back, its subscription stands.
    hub.publish("a/ready", b"")
    hub.ack(wait_for(hub, Arrived))
    gateway = linked(broker, "gw-a")
    gateway.publish("a/taps", b"1")
    first = wait_for(hub, Arrived)
    pull_the_cable(hub)
    wait_for(hub, Connected)
    hub.ack(first)  # from before the reconnect: left alone
    again = wait_for(hub, Arrived)
    assert again.payload == b"1"
    assert again.generation > first.generation
    hub.ack(again)
    hub.close()
    gateway.close()


def test_a_refusal_by_access_rules_is_told_with_its_reason(tmp_path: Path) -> None:
    needs_mosquitto()
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite free/#\n")
    broker = Mosquitto(tmp_path, f"acl_file {rules}")
    broker.start()
    link = linked(broker, "gw-a")
    refused = link.publish("closed/a", b"1")
    assert wait_for(link, Published, lambda item: item.mid == refused).refused == "Not authorized"
    link.close()
    # mosquitto 2.0.11 often cuts the connection after a refusal, so the allowed topic gets one of its own.
    other = linked(broker, "gw-b")
    kept = other.publish("free/a", b"1")
    assert wait_for(other, Published, lambda item: item.mid == kept).refused is None
    other.close()
    broker.stop()


def test_a_broker_without_mqtt_5_is_named_as_such() -> None:
    # An MQTT 3.1.1 broker answers our CONNECT with return code 1, unacceptable protocol version (section 3.2.2.3).
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        connection.recv(1024)
        connection.sendall(b"\x20\x02\x00\x01")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    link = Link(BrokerSettings("127.0.0.1", server.getsockname()[1], tls=False), "gw-a")
    link.start()
    why = wait_for(link, Disconnected).why
    link.close()
    thread.join(5)
    server.close()
    assert "MQTT 5" in why


def test_missing_certificate_files_are_named(tmp_path: Path) -> None:
    settings = BrokerSettings("127.0.0.1", 8883, tls=True, ca_file=tmp_path / "ca.pem")
    with pytest.raises(FatalError, match=r"ca\.pem"):
        Link(settings, "gw-a")
    settings = BrokerSettings("127.0.0.1", 1883, tls=False, username="gw", password_file=tmp_path / "password")
    with pytest.raises(FatalError, match="password file"):
        Link(settings, "gw-a")
