"""One delivery over SMTP: TLS from the start or by STARTTLS, each mail with an id that stays the same over tries.

A server's own words may repeat an address; only its codes leave this module.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from gateway.config import MailSettings, is_loopback
from gateway.errors import RefusedError, RetryError
from gateway.hub.mail.outbox import Mail
from gateway.hub.mail.texts import render

_SECONDS = 20.0
_LONGEST_SECRET = 4096
_CLOSING, _FOR_GOOD = 421, 500


class MailNotSent(RetryError):
    """The mail server is away or does not take mails now."""


class MailDelayed(RetryError):
    """The mail server does not take this one mail now; it may take others."""


class MailRefused(RefusedError):
    """The mail server will never take this mail."""


@dataclass(slots=True)
class Mailbox:
    """An open connection to the mail server."""

    settings: MailSettings
    server: smtplib.SMTP

    def send(self, mail: Mail) -> None:
        """Send one mail.

        Raises:
            MailRefused: its address or its text was refused for good.
            MailDelayed: it was refused this time, for instance because its mailbox is full.
            MailNotSent: the server broke off.
        """
        message = compose(mail, self.settings.sender)
        try:
            self.server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            raise _verdict(code, "The address was refused") from None
        except smtplib.SMTPResponseException as error:
            raise _verdict(error.smtp_code, "The mail was refused") from None
        except (OSError, smtplib.SMTPException) as error:
            raise MailNotSent(f"The mail server broke off ({type(error).__name__}).") from None


def _verdict(code: int, what: str) -> MailNotSent | MailDelayed | MailRefused:
    if code == _CLOSING:
        return MailNotSent(f"The mail server takes no more mails now ({code}).")
    if code >= _FOR_GOOD:
        return MailRefused(f"{what} for good by the mail server ({code}).")
    return MailDelayed(f"{what} for now by the mail server ({code}).")


@contextlib.contextmanager
def open_mailbox(settings: MailSettings) -> Iterator[Mailbox]:
    """Connect, encrypt and sign in.

    Raises:
        MailNotSent: the server does not answer, offers no encryption, or refuses the sign-in.
    """
    try:
        server = _connect(settings)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
        raise MailNotSent(f"The mail server {settings.host} cannot be used ({type(error).__name__}{code}).") from None
    try:
        yield Mailbox(settings, server)
    finally:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            server.quit()
        server.close()


def _connect(settings: MailSettings) -> smtplib.SMTP:
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if settings.tls:
        server = smtplib.SMTP_SSL(settings.host, settings.port, timeout=_SECONDS, context=context)
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=_SECONDS)
    try:
        server.ehlo()
        # A password or an alarm travels unencrypted on this machine only.
        is_here = is_loopback(settings.host)
        if not settings.tls and (server.has_extn("starttls") or not is_here):
            server.starttls(context=_unchecked() if is_here else context)
            server.ehlo()
        if settings.username is not None:
            server.login(settings.username, _read_password(settings))
    except BaseException:
        server.close()
        raise
    return server


def _unchecked() -> ssl.SSLContext:
    # The certificate of a relay on this machine names another host.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read_password(settings: MailSettings) -> str:
    if settings.password_file is None:
        return ""
    with settings.password_file.open(encoding="utf-8") as file:
        return file.read(_LONGEST_SECRET).strip()


def compose(mail: Mail, sender: str) -> EmailMessage:
    """Make the message; its id is the same each time, so that a mail sent twice can be told as one."""
    text = render(mail.template, mail.params)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, mail.address, text.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.created_ms / 1000, UTC))
    message["Message-ID"] = f"<tapgate.{mail.id}.{mail.created_ms}@{sender.rpartition('@')[2].rstrip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text.body)
    return message
