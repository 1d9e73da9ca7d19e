"""The hub's own certificate authority: one for the broker, the hub and every gateway of the trust.

A gateway's certificate carries `CN=SITE/GATEWAY`, which the broker takes as user name and client id: a certificate
identifies one gateway of one site and nothing else. The authority's key never leaves the hub's state folder.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import FatalError

AUTHORITY_DAYS = 3653
BROKER_DAYS = 3650
# Renewed at 120 by enrolment; until there is one, `tapgate hub issue` again.
GATEWAY_DAYS = 180
HUB_USER = "tapgate-hub"
# A Pi without a clock chip starts with a past time and would refuse a certificate valid only from now on.
_BACKDATED = dt.timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes
    valid_until: dt.datetime


class Authority:
    """Signs certificates; created once for a hub and kept for its lifetime.

    Args:
        certificate: the authority's own, PEM.
        key: its private key, PEM.

    Raises:
        FatalError: the two do not match, or are not PEM.
    """

    def __init__(self, certificate: bytes, key: bytes) -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            loaded = load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise FatalError(
                f"The hub's certificate authority cannot be read ({type(error).__name__}); restore ca.crt and ca.key "
                "from the backup of its state folder."
            ) from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != self._certificate.public_key():
            raise FatalError("ca.key is not the key of ca.crt; restore both from the same backup of the hub.")
        self._key = loaded
        self.certificate = certificate

    @classmethod
    def create(cls, name: str, now: dt.datetime) -> tuple[Authority, bytes]:
        """Create an authority that cannot sign other authorities; return it and its private key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, subject, key.public_key(), key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        pem = _pem(key)
        return cls(certificate, pem), pem

    def issue_gateway(self, site: str, gateway: str, now: dt.datetime) -> Issued:
        """Issue the client certificate of one gateway of one site."""
        return self._issue(f"{site}/{gateway}", ExtendedKeyUsageOID.CLIENT_AUTH, (), now, GATEWAY_DAYS)

    def issue_hub(self, now: dt.datetime) -> Issued:
        """Issue the client certificate with which the hub speaks to its broker."""
        return self._issue(HUB_USER, ExtendedKeyUsageOID.CLIENT_AUTH, (), now, BROKER_DAYS)

    def issue_broker(self, hosts: Sequence[str], now: dt.datetime) -> Issued:
        """Issue the broker's certificate for every name and address at which gateways reach it."""
        return self._issue(hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, hosts, now, BROKER_DAYS)

    def _issue(
        self, name: str, usage: x509.ObjectIdentifier, hosts: Sequence[str], now: dt.datetime, days: int
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), self._key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(Encoding.PEM), _pem(key), certificate.not_valid_after_utc)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    # Python 3.13 checks chains strictly (RFC 5280): both key identifiers are required.
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
