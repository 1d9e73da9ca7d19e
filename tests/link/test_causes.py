"""Each trouble with the broker has its own sentence; most are met with real sockets and a real mosquitto."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import BrokerSettings
from gateway.link.causes import why_not_connected
from gateway.link.client import Arrived, Connected, Disconnected, Link
from tests.brokers import Mosquitto, free_port, needs_mosquitto
from tests.certificates import Authority
from tests.link.test_client import wait_for
from tests.link.test_tls import guarded_broker, settings_of

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CONNACK = b"\x20\x03\x00\x00\x00"


def first_why(settings: BrokerSettings, name: str = "gw-canteen") -> str:
    link = Link(settings, name)
    link.start()
    try:
        return str(wait_for(link, Disconnected).why)
    finally:
        link.close()


@contextlib.contextmanager
def serving(talk: Callable[[socket.socket, int], None]) -> Iterator[BrokerSettings]:
    """Run a server that talks to each connection in its own way; the talk gets the connection and its number."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in range(1000):
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                talk(connection, number)

    threading.Thread(target=serve, daemon=True).start()
    yield BrokerSettings("127.0.0.1", server.getsockname()[1], tls=False)
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize(("error", "words"), [
    (socket.gaierror(socket.EAI_NONAME, "x"), "the name hub is not known"),
    (socket.gaierror(socket.EAI_AGAIN, "x"), "no name server answers"),
    (OSError(errno.EHOSTUNREACH, "x"), "no route to hub:1883"),
    (OSError(errno.ENETUNREACH, "x"), "no route to hub:1883"),
    (PermissionError(errno.EPERM, "x"), "IPAddressAllow"),
    (TimeoutError("timed out"), "nothing answers"),
    (UnicodeError("label empty or too long"), "not a host name"),
    (RuntimeError("odd"), "no broker answers at hub:1883 (odd)"),
])  # fmt: skip
def test_what_a_network_says_has_its_sentence(error: Exception, words: str) -> None:
    assert words in why_not_connected(error, "hub:1883", tls=False)


def test_a_name_that_nobody_knows_and_a_port_where_nobody_listens() -> None:
    assert "refuses the connection" in first_why(BrokerSettings("127.0.0.1", free_port(), tls=False))
    assert "not a host name" in first_why(BrokerSettings("hub..example", 1883, tls=False))
    assert "not a host name" in first_why(BrokerSettings("a" * 64, 1883, tls=False))


def test_tls_at_a_plain_port_and_plain_at_a_tls_port(tmp_path: Path) -> None:
    needs_mosquitto()
    (tmp_path / "plain").mkdir()
    plain, school = Mosquitto(tmp_path / "plain"), Authority(tmp_path)
    plain.start()
    secret = guarded_broker(school, tmp_path)
    files = school.issue("gw-canteen")
    assert "no TLS is spoken at" in first_why(settings_of(plain, school, files))
    assert "TLS" in first_why(replace(secret.settings, tls=False, ca_file=None))
    plain.stop()
    secret.stop()


def test_the_broker_s_alert_to_a_plain_client_is_understood() -> None:
    def alert(connection: socket.socket, _number: int) -> None:
        connection.recv(1024)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with serving(alert) as settings:
        assert "TLS is spoken at" in first_why(settings)


def test_a_web_page_in_between_is_called_one(tmp_path: Path) -> None:
    def page(connection: socket.socket, _number: int) -> None:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>")

    school = Authority(tmp_path)
    with serving(page) as settings:
        assert "a web page answers at" in first_why(settings)
        assert "no TLS is spoken at" in first_why(replace(settings, tls=True, ca_file=school.ca_file))


def test_certificates_that_are_not_trusted_expired_or_for_another_name(tmp_path: Path) -> None:
    needs_mosquitto()
    school = Authority(tmp_path)
    broker = guarded_broker(school, tmp_path)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other-ca")
    files = school.issue("gw-canteen")
    assert "is not trusted" in first_why(settings_of(broker, other, files))
    assert "is for another name" in first_why(replace(settings_of(broker, school, files), host="localhost"))
    for stranger in (None, other.issue("gw-canteen")):
        why = first_why(settings_of(broker, school, stranger))
        assert "certificate" in why
        assert "broker" in why or "refuse" in why
    broker.stop()
    expired = ssl.SSLCertVerificationError("x")
    expired.verify_code = 10
    assert "has expired" in why_not_connected(expired, "hub:8883", tls=True)


def test_another_gateway_with_the_same_id_is_named(tmp_path: Path) -> None:
    needs_mosquitto()
    broker = Mosquitto(tmp_path)
    broker.start()
    first = Link(broker.settings, "gw-canteen")
    first.start()
    wait_for(first, Connected)
    second = Link(broker.settings, "gw-canteen")
    second.start()
    # This mosquitto throws the older one out without a word; the two do so in turn.
    assert wait_for(first, Disconnected, lambda item: "another gateway may use the same id" in item.why)
    first.close()
    second.close()
    broker.stop()


def test_a_session_that_was_taken_over_is_named() -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        connection.sendall(CONNACK + b"\xe0\x02\x8e\x00")

    with serving(talk) as settings:
        assert "another gateway uses the same id" in first_why(settings)


def publish(topic: bytes, rest: bytes) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + rest
    return b"\x30" + bytes([len(body)]) + body


BAD_PACKETS = {
    "a property that there is not": publish(b"tg/x", b"\x02\x7f\x01x"),
    "a publish cut in its header": b"\x32\x03\x00\x10t",
    "a reserved packet type": b"\xf5\x00",
    "a length without an end": b"\x30\xff\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", BAD_PACKETS)
def test_after_a_packet_that_is_no_mqtt_the_connection_is_made_anew(name: str) -> None:
    def talk(connection: socket.socket, number: int) -> None:
        connection.recv(4096)
        connection.sendall(CONNACK)
        if number == 0:
            time.sleep(0.05)
            connection.sendall(BAD_PACKETS[name])
        while connection.recv(4096):
            pass

    with serving(talk) as settings:
        link = Link(settings, "gw-canteen")
        link.start()
        wait_for(link, Connected)
        assert wait_for(link, Disconnected).why
        assert wait_for(link, Connected).generation == 2
        link.close()


def test_a_topic_that_is_not_utf_8_costs_only_its_message() -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        connection.sendall(CONNACK + publish(b"tg/\xff\xfe", b"\x00x") + publish(b"tg/good", b"\x00y"))
        while connection.recv(4096):
            pass

    with serving(talk) as settings:
        link = Link(settings, "gw-canteen")
        link.start()
        assert wait_for(link, Arrived).topic == "tg/good"
        assert link.connected
        link.close()


def test_stock_paho_ends_for_good_on_a_name_with_two_dots() -> None:
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    before, threading.excepthook = threading.excepthook, lambda arguments: ended.put(str(arguments.exc_type))
    try:
        client = paho.Client(CallbackAPIVersion.VERSION2, "stock", protocol=paho.MQTTv5)
        client.connect_async("hub..example", 1883)
        client.loop_start()
        assert "UnicodeError" in ended.get(timeout=10)
        assert client._thread is None
    finally:
        threading.excepthook = before


def test_a_network_thread_that_ended_is_started_again(tmp_path: Path) -> None:
    needs_mosquitto()
    broker = Mosquitto(tmp_path)
    broker.start()
    link = Link(broker.settings, "gw-canteen")
    link.start()
    wait_for(link, Connected)
    thread = link._client._thread
    assert thread is not None
    link._client._thread_terminate = True
    thread.join(10)
    assert not link._client.is_running
    link.tend()
    assert wait_for(link, Connected).generation == 2
    link.close()
    broker.stop()
