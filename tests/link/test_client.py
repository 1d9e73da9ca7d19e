from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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


@contextlib.contextmanager
def answering(packet: bytes) -> Iterator[int]:
    """Return the port of a server that answers the first connection with one packet and ends it."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        connection.recv(1024)
        connection.sendall(packet)
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    yield server.getsockname()[1]
    thread.join(5)
    server.close()


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
    assert "refuses the connection" in wait_for(link, Disconnected).why
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


def test_a_dead_node_is_left_for_the_next_and_again_when_that_one_dies(tmp_path: Path) -> None:
    needs_mosquitto()
    first, second = Mosquitto(tmp_path), Mosquitto(tmp_path)
    cluster = replace(first.settings, others=(("127.0.0.1", second.port),))
    first.start()
    link = Link(cluster, "gw-a")
    link.start()
    wait_for(link, Connected)
    first.kill()
    wait_for(link, Disconnected)
    second.start()
    assert wait_for(link, Connected).generation == 2
    assert link.publish("a/b", b"1") is not None
    assert wait_for(link, Published).refused is None
    second.kill()
    first.start()
    assert wait_for(link, Connected).generation == 3
    link.close()
    first.stop()


def test_a_node_that_refuses_is_left_for_the_next_one(mosquitto: Mosquitto) -> None:
    # Reason code 136, server unavailable (MQTT 5, section 3.2.2.2): a node that starts or stops.
    with answering(b"\x20\x03\x00\x88\x00") as port:
        settings = replace(mosquitto.settings, port=port, others=(("127.0.0.1", mosquitto.port),))
        link = Link(settings, "gw-a")
        link.start()
        assert "refused the connection" in wait_for(link, Disconnected).why
        wait_for(link, Connected)
        link.close()


def test_a_link_closed_while_no_node_answers_stays_closed() -> None:
    nodes = [("127.0.0.1", free_port()) for _ in range(3)]
    others = set(threading.enumerate())
    link = Link(BrokerSettings(*nodes[0], tls=False, others=tuple(nodes[1:])), "gw-a")
    link.start()
    named = {wait_for(link, Disconnected).why.split()[0] for _ in nodes}
    assert named == {f"{host}:{port}" for host, port in nodes}
    link.close()
    assert set(threading.enumerate()) <= others


def test_a_broker_without_mqtt_5_is_named_as_such() -> None:
    # An MQTT 3.1.1 broker answers our CONNECT with return code 1, unacceptable protocol version (section 3.2.2.3).
    with answering(b"\x20\x02\x00\x01") as port:
        link = Link(BrokerSettings("127.0.0.1", port, tls=False), "gw-a")
        link.start()
        why = wait_for(link, Disconnected).why
        link.close()
    assert "MQTT 5" in why


def test_missing_certificate_files_are_named(tmp_path: Path) -> None:
    settings = BrokerSettings("127.0.0.1", 8883, tls=True, ca_file=tmp_path / "ca.pem")
    with pytest.raises(FatalError, match=r"ca\.pem"):
        Link(settings, "gw-a")
    settings = BrokerSettings("127.0.0.1", 1883, tls=False, username="gw", password_file=tmp_path / "password")
    with pytest.raises(FatalError, match="password file"):
        Link(settings, "gw-a")
