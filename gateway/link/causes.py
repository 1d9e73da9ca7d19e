"""Why there is no connection to the broker: one sentence each, with what to do.

Sources: errno(3), ssl (reasons as OpenSSL names them), X509_V_ERR in x509_vfy.h, MQTT 5 section 2.4 for reason codes.
"""

from __future__ import annotations

import errno
import socket
import ssl

_EXPIRED, _NOT_YET = 10, 9
_WRONG_NAME = frozenset({62, 64})
# What a broker says when it does not like the certificate it was shown, or misses one.
_OUR_CERTIFICATE = (
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REQUIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REVOKED",
    "UNSUPPORTED_CERTIFICATE",
    "HANDSHAKE_FAILURE",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
)
_TLS_RECORD = (b"\x15\x03", b"\x16\x03")
_WEB = (b"HTTP", b"<", b"\r\n<")
_CONNACK = 0x20

_REFUSALS = {
    errno.ECONNREFUSED: "{place} refuses the connection: no broker runs there, or a firewall forbids it",
    errno.EHOSTUNREACH: "there is no route to {place}: the host is off or the network between is down",
    errno.ENETUNREACH: "there is no route to {place}: check this machine's cable, address and gateway",
    errno.ETIMEDOUT: "nothing answers at {place}: the host is off, or a firewall drops what is sent to it",
    errno.EPERM: "this system forbids connections to {place}: allow its network with IPAddressAllow= in the unit "
    "(systemctl edit tapgate), or in the local firewall",
    errno.EACCES: "this system forbids connections to {place}: a local firewall or a security module",
    errno.EADDRNOTAVAIL: "{place} cannot be reached from this machine's addresses; check the url",
    errno.EMFILE: "this process has no descriptor left for a connection to {place}; start it again and read its log",
}


def why_not_connected(error: BaseException | None, place: str, *, tls: bool) -> str:  # a list
    """Return why an attempt failed.

    Args:
        error: what the attempt raised.
        place: `host:port`.
        tls: whether TLS is spoken on this connection.
    """
    host = place.rpartition(":")[0]
    if isinstance(error, UnicodeError):
        return f"{host!r} is not a host name; correct the url of the broker"
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return f"no name server answers for {host}; check this machine's network and its DNS"
        return f"the name {host} is not known; correct the url of the broker, or the name server"
    if isinstance(error, ssl.SSLError):
        return _why_no_tls(error, place)
    is_handshake = isinstance(error, TimeoutError) and "handshake" in str(error)
    if tls and (is_handshake or isinstance(error, ConnectionResetError | BrokenPipeError)):
        return _not_tls(place)
    if isinstance(error, TimeoutError):
        return _REFUSALS[errno.ETIMEDOUT].format(place=place)
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return _REFUSALS[error.errno].format(place=place)
    return f"no broker answers at {place} ({error or 'no reason is known'})"


def why_ended_early(error: BaseException | None, first_bytes: bytes, place: str, *, tls: bool) -> str:
    """Return why a connection ended before the broker's first word of MQTT.

    Args:
        error: what reading raised last, None for a plain end.
        first_bytes: what came first.
    """
    if first_bytes.startswith(_TLS_RECORD):
        return f"TLS is spoken at {place}; use mqtts:// or the broker's plain port"
    if first_bytes.lstrip()[:4].upper().startswith(_WEB):
        return (
            f"a web page answers at {place}, not a broker: a proxy or a sign-in page stands between, or the port is "
            "wrong"
        )
    if isinstance(error, ssl.SSLError):
        return _why_no_tls(error, place)
    if first_bytes and first_bytes[0] != _CONNACK:
        return f"what answers at {place} is no MQTT broker; check host and port"
    if tls:
        return f"{place} ended the connection after the TLS handshake: it may refuse this gateway's certificate"
    return f"{place} ended the connection without an answer: TLS may be spoken there (mqtts://), or it is no broker"


def _why_no_tls(error: ssl.SSLError, place: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _EXPIRED:
            return f"the certificate of the broker at {place} has expired; renew it, and check this machine's clock"
        if error.verify_code == _NOT_YET:
            return f"the certificate of the broker at {place} is not valid yet; check this machine's clock"
        if error.verify_code in _WRONG_NAME:
            return f"the certificate of the broker at {place} is for another name; use that name in the url"
        return f"the certificate of the broker at {place} is not trusted; check ca_file ({error.verify_message})"
    reason = (error.reason or str(error)).upper()
    if "ALERT" in reason and any(word in reason for word in _OUR_CERTIFICATE):
        return (
            f"the broker at {place} refuses this gateway's certificate ({_words(reason)}); check cert_file and key_file"
        )
    if "ALERT" in reason:
        return (
            f"the broker at {place} and this gateway agree on no TLS ({_words(reason)}); it must speak TLS 1.2 or newer"
        )
    return _not_tls(place)


def _not_tls(place: str) -> str:
    return f"no TLS is spoken at {place}; use mqtt:// or the broker's TLS port"


def _words(reason: str) -> str:
    return reason.rpartition("ALERT_")[2].replace("_", " ").lower()
