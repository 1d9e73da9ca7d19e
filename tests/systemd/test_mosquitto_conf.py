"""The broker configuration that ships, run by a real mosquitto: certificates, access rules, limits."""

from __future__ import annotations

import gc
import queue
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import BrokerSettings
from gateway.link.client import Arrived, Connected, Link, Published
from gateway.link.topics import HUB_STATE, GatewayTopics, roster_manifest
from tests.brokers import MOSQUITTO, free_port, wait_for_port
from tests.certificates import Authority

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="mosquitto is not installed"),
]
SHIPPED = Path(__file__).parents[2] / "systemd"
OURS, OTHERS = GatewayTopics("st-marys", "gw-canteen"), GatewayTopics("st-marys", "gw-front")


class _School:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("broker")
        self.plain_port, self.tls_port = free_port(), free_port()
        text = (SHIPPED / "mosquitto-tapgate.conf").read_text(encoding="utf-8")
        for shipped, here in (
            ("listener 1883 127.0.0.1", f"listener {self.plain_port} 127.0.0.1"),
            ("listener 8883", f"listener {self.tls_port} 127.0.0.1"),
            ("/etc/tapgate/ca.crt", str(self.authority.ca_file)),
            ("/etc/mosquitto/certs/hub.crt", str(certificate)),
            ("/etc/mosquitto/certs/hub.key", str(key)),
            ("/etc/mosquitto/tapgate.acl", str(SHIPPED / "mosquitto-tapgate.acl")),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        (folder / "mosquitto.conf").write_text(f"{text}\nuser root\npersistence_location {folder}/\n", encoding="utf-8")
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
        wait_for_port(self.tls_port)

    def link(self, name: str) -> Link:
        certificate, key = self.authority.issue(name)
        settings = BrokerSettings("127.0.0.1", self.tls_port, True, self.authority.ca_file, certificate, key)
        return Link(settings, name)

    def hub(self) -> Link:
        return Link(BrokerSettings("127.0.0.1", self.plain_port, False), "hub")


@pytest.fixture
def school(tmp_path: Path) -> Iterator[_School]:
    school = _School(tmp_path)
    yield school
    school.process.terminate()
    school.process.wait(10)


def _hear(link: Link, kind: type, seconds: float = 10.0) -> object:
    deadline = time.monotonic() + seconds
    while True:
        try:
            item = link.inbox.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"no {kind.__name__} came")
        if isinstance(item, kind):
            return item


def _connect(link: Link) -> Link:
    link.start()
    _hear(link, Connected)
    return link


def test_a_gateway_reaches_its_own_topics_and_is_refused_at_those_of_another(school: _School) -> None:
    answers = []
    for topic in (OURS.taps, OURS.state, OTHERS.taps, OTHERS.ack, OURS.ack, roster_manifest("st-marys"), HUB_STATE):
        # mosquitto 2.0.11 often cuts the connection after a refusal, so each topic gets one of its own.
        gateway = _connect(school.link("gw-canteen"))
        gateway.publish(topic, b"[]")
        answer = _hear(gateway, Published)
        assert isinstance(answer, Published)
        answers.append(answer.refused is None)
        gateway.close()
    assert answers == [True, True, False, False, False, False, False]


def test_a_gateway_hears_the_hub_and_nothing_of_another_gateway(school: _School) -> None:
    hub, gateway = _connect(school.hub()), _connect(school.link("gw-canteen"))
    gateway.subscribe([OURS.ack, OTHERS.ack, OTHERS.taps, roster_manifest("st-marys")])
    for topic in (OTHERS.ack, OTHERS.taps, roster_manifest("st-marys"), OURS.ack):
        hub.publish(topic, b"{}", retain=True)
    heard = []
    while OURS.ack not in heard:
        message = _hear(gateway, Arrived)
        assert isinstance(message, Arrived)
        heard.append(message.topic)
    hub.close()
    gateway.close()
    assert set(heard) == {OURS.ack, roster_manifest("st-marys")}


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_certificate_of_the_school_nobody_gets_in(school: _School, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificate, key = Authority(other).issue("gw-canteen")
    settings = BrokerSettings("127.0.0.1", school.tls_port, True, school.authority.ca_file, certificate, key)
    intruder = Link(settings, "gw-canteen")
    intruder.start()
    item = intruder.inbox.get(timeout=10)
    intruder.close()
    del intruder
    gc.collect()
    assert not isinstance(item, Connected)


def test_the_open_listener_is_on_this_machine_only() -> None:
    text = (SHIPPED / "mosquitto-tapgate.conf").read_text(encoding="utf-8")
    sections = re.split(r"^listener ", text, flags=re.MULTILINE)[1:]
    assert [section.split()[1] for section in sections if "allow_anonymous true" in section] == ["127.0.0.1"]
