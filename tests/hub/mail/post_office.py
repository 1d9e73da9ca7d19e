"""A real mail server on loopback, and a clock; shared by the tests of mails."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from gateway.config import MailSettings
from gateway.hub.store.times import to_ms
from tests.hub.samples import free_port

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# A Thursday of term.
NOON = to_ms(datetime(2026, 11, 26, 12, tzinfo=UTC))
NOBODY, LATER = "nobody@school.example", "later@school.example"


class Clock:
    def __init__(self) -> None:
        self.at_ms = NOON

    def __call__(self) -> int:
        return self.at_ms


class PostOffice:
    """Takes mails; `nobody@` does not exist, `later@` is over its quota."""

    def __init__(self, **options: Any) -> None:
        self.port = free_port()
        self.taken: list[tuple[str, Message]] = []
        self.encrypted: list[bool] = []
        self.passwords: list[bytes] = []
        self._options = options
        self._controller: Controller | None = None

    def open(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **self._options)
        self._controller.start()

    def close(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_RCPT(  # noqa: N802  # the name that aiosmtpd calls
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address == NOBODY:
            return f"550 5.1.1 {address} is unknown here"
        if address == LATER:
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # as above
        message = message_from_bytes(envelope.content)
        self.taken += [(address, message) for address in envelope.rcpt_tos]
        self.encrypted.append(session.ssl is not None)
        return "250 OK"

    def check(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Note a password and take it if it is the right one."""
        self.passwords.append(data.password)
        return AuthResult(success=data.password == b"right")

    def subjects(self) -> list[str]:
        """Return the subjects that came since the last call."""
        subjects = [str(message["Subject"]) for _, message in self.taken]
        self.taken.clear()
        return subjects


def mail_settings(port: int, **fields: Any) -> MailSettings:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": False, "sender": "tapgate@school.example"}
    values |= {"username": None, "password_file": None, "to": ("it@school.example",), **fields}
    return MailSettings(**values)


def server_context(certificate: Any, key: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
