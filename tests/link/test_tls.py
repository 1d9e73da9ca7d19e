"""mosquitto as a school runs it: TLS, a certificate for each gateway, and its name in the access rules."""

from __future__ import annotations

import datetime as dt
import gc
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config import BrokerSettings
from gateway.link.client import Arrived, Connected, Disconnected, Link, Published
from tests.brokers import Mosquitto, needs_mosquitto
from tests.link.test_client import wait_for


class School:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "school-ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca_file = folder / f"{name}.pem"
        self.ca_file.write_bytes(self._sign(self._name, self._key, is_ca=True))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            # Python 3.13 checks certificates strictly (RFC 5280): key identifiers and key usage must be there.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_ca,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=is_ca,
                    crl_sign=is_ca,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Give certificate and key file of a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(
            self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, is_ca=False)
        )
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key_file


@pytest.fixture
def school(tmp_path: Path) -> School:
    needs_mosquitto()
    return School(tmp_path)


def guarded_broker(school: School, folder: Path) -> Mosquitto:
    certificate, key = school.issue("broker")
    rules = folder / "acl"
    rules.write_text("pattern readwrite tapgate/v1/st-marys/%u/#\n")
    broker = Mosquitto(
        folder,
        f"cafile {school.ca_file}\ncertfile {certificate}\nkeyfile {key}\n"
        f"require_certificate true\nuse_identity_as_username true\nacl_file {rules}",
    )
    broker.start()
    return broker


def settings_of(broker: Mosquitto, school: School, files: tuple[Path, Path] | None) -> BrokerSettings:
    certificate, key = files or (None, None)
    return BrokerSettings("127.0.0.1", broker.port, True, school.ca_file, certificate, key)


def test_a_gateway_speaks_under_its_certificate_s_name_and_under_no_other(school: School, tmp_path: Path) -> None:
    broker = guarded_broker(school, tmp_path)
    link = Link(settings_of(broker, school, school.issue("gw-canteen")), "gw-canteen")
    link.start()
    wait_for(link, Connected)
    link.subscribe(["tapgate/v1/st-marys/gw-canteen/ack"])
    link.publish("tapgate/v1/st-marys/gw-canteen/ack", b"own")
    assert wait_for(link, Arrived).payload == b"own"
    foreign = link.publish("tapgate/v1/st-marys/gw-library/taps", b"[]")
    assert wait_for(link, Published, lambda item: item.mid == foreign).refused == "Not authorized"
    link.close()
    broker.stop()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_certificate_or_with_a_stranger_s_there_is_no_connection(school: School, tmp_path: Path) -> None:
    broker = guarded_broker(school, tmp_path)
    (tmp_path / "stranger").mkdir()
    stranger = School(tmp_path / "stranger", "other-ca").issue("gw-canteen")
    for files in (None, stranger):
        link = Link(settings_of(broker, school, files), "gw-canteen")
        link.start()
        assert wait_for(link, Disconnected).why
        assert not link.connected
        link.close()
        del link
    broker.stop()
    gc.collect()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_with_a_stranger_s_certificate_is_not_trusted(school: School, tmp_path: Path) -> None:
    broker = guarded_broker(school, tmp_path)
    (tmp_path / "stranger").mkdir()
    other = School(tmp_path / "stranger", "other-ca")
    link = Link(settings_of(broker, other, other.issue("gw-canteen")), "gw-canteen")
    link.start()
    assert "do not trust each other" in wait_for(link, Disconnected).why
    assert not link.connected
    link.close()
    broker.stop()
    del link
    gc.collect()
