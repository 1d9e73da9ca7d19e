"""The broker configuration that ships, run by a real mosquitto: certificates, access rules, limits."""

from __future__ import annotations

import datetime as dt
import queue
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config import BrokerSettings
from gateway.link.client import Arrived, Connected, Link, Published
from gateway.link.topics import HUB_STATE, GatewayTopics, roster_manifest
from tests.brokers import MOSQUITTO, free_port, wait_for_port

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="mosquitto is not installed"),
]
SHIPPED = Path(__file__).parents[2] / "systemd"
OURS, OTHERS = GatewayTopics("st-marys", "gw-canteen"), GatewayTopics("st-marys", "gw-front")


class _Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.crt"
        self.file.write_bytes(self._sign(self._name, self._key.public_key(), authority=True))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool = False) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
        builder = builder.not_valid_after(now + dt.timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(
            self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
        )
        plain = serialization.NoEncryption()
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return certificate, private


class _School:
    def __init__(self, folder: Path) -> None:
        self.authority = _Authority(folder)
        certificate, key = self.authority.issue("localhost")
        self.plain_port, self.tls_port = free_port(), free_port()
        text = (SHIPPED / "mosquitto-tapgate.conf").read_text(encoding="utf-8")
        for shipped, here in (
            ("listener 1883 127.0.0.1", f"listener {self.plain_port} 127.0.0.1"),
            ("listener 8883", f"listener {self.tls_port} 127.0.0.1"),
            ("/etc/tapgate/ca.crt", str(self.authority.file)),
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
        settings = BrokerSettings("localhost", self.tls_port, True, self.authority.file, certificate, key)
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
    gateway = _connect(school.link("gw-canteen"))
    answers = []
    for topic in (OURS.taps, OURS.state, OTHERS.taps, OTHERS.ack, OURS.ack, roster_manifest("st-marys"), HUB_STATE):
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


def test_without_a_certificate_of_the_school_nobody_gets_in(school: _School, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificate, key = _Authority(other).issue("gw-canteen")
    settings = BrokerSettings("localhost", school.tls_port, True, school.authority.file, certificate, key)
    intruder = Link(settings, "gw-canteen")
    intruder.start()
    item = intruder.inbox.get(timeout=10)
    intruder.close()
    assert not isinstance(item, Connected)


def test_the_open_listener_is_on_this_machine_only() -> None:
    text = (SHIPPED / "mosquitto-tapgate.conf").read_text(encoding="utf-8")
    sections = re.split(r"^listener ", text, flags=re.MULTILINE)[1:]
    assert [section.split()[1] for section in sections if "allow_anonymous true" in section] == ["127.0.0.1"]
