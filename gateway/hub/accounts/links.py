"""Links that are mailed: invitations, and the way back in for somebody who forgot a password.

The outbox holds no secret: it names an address, and the link is made when its mail leaves. So a request for a link is
the same work whether there is such an account or not; the thread that sends mails finds that out, and tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import Connection, select

from gateway.hub.accounts.attempts import BY_RESET, BY_RESET_ADDRESS
from gateway.hub.accounts.people import Account, find_account, norm_email
from gateway.hub.accounts.sign_in import brake
from gateway.hub.accounts.tokens import RESET_MS, make_one_time
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms

INVITATION, RESET, AT_ISSUER = "invitation", "password_reset", "password_at_issuer"
# Mails with these templates are in the outbox before it is settled whether and with what they leave.
PREPARED = frozenset({INVITATION, RESET})
_MINUTE_MS = 60_000
_HUB = "hub"
Post = Callable[[Connection, str, Mapping[str, str], Collection[str], str, int], int]


@dataclass(frozen=True, slots=True)
class Mailer:
    """What it takes to mail a link.

    Attributes:
        post: puts a mail in the outbox.
        pages: what links start with: the public address of the settings, never a name that a request brought.
    """

    post: Post
    pages: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A mail as it leaves."""

    template: str
    params: Mapping[str, str]
    address: str


def mail_invitation(connection: Connection, mailer: Mailer, account: Account, at_ms: int) -> bool:
    """Put the invitation of an account in the outbox, once a minute at most; return whether one is on its way."""
    key = f"{INVITATION} {at_ms // _MINUTE_MS}"
    if mailer.post(connection, INVITATION, {"pages": mailer.pages}, [account.email], key, at_ms):
        return True
    # Nothing was posted: it was a double click, the address is never mailed, or the outbox is full.
    mail = tables.mail
    same = (mail.c.template == INVITATION, mail.c.address == account.email, mail.c.created_ms > at_ms - _MINUTE_MS)
    return connection.execute(select(mail.c.id).where(*same)).first() is not None


def request_reset(store: Store, mailer: Mailer, email: str, client: str | None) -> None:
    """Ask for a link that sets a new password.

    Args:
        client: where the request comes from; None when nobody can tell, as behind a proxy.

    Raises:
        TooManyAttempts, RefusedError: what the page shows; it is the same for an address without an account.
    """
    at_ms = now_ms()
    norm = norm_email(email)
    with store.write() as connection:
        brake(connection, BY_RESET, norm, at_ms)
        if client is not None:
            brake(connection, BY_RESET_ADDRESS, client, at_ms)
        key = f"{RESET} {at_ms // _MINUTE_MS}"
        mailer.post(connection, RESET, {"pages": mailer.pages}, [norm], key, at_ms)


def prepare(connection: Connection, mail: Prepared, created_ms: int, at_ms: int) -> Prepared | None:
    """Return a mail of the outbox as it leaves now, with a new link; None when nobody may have it.

    It goes to the address that the account has, not to the one that somebody typed.
    """
    account = find_account(connection, email=mail.address)
    if account is None:
        return None
    pages = mail.params["pages"]
    if mail.template == INVITATION:
        if account.state != "invited":
            return None
        token = make_one_time(connection, "invite", at_ms, account=account.id)
        return Prepared(INVITATION, {"link": f"{pages}/welcome/{token}"}, account.email)
    if account.state != "active" or at_ms - created_ms >= RESET_MS:
        return None
    way = tables.sign_in_way
    ways = connection.execute(select(way.c.kind, way.c.issuer).where(way.c.account == account.id)).all()
    if any(row.kind == "password" for row in ways):
        token = make_one_time(connection, "forgot", at_ms, account=account.id, lasts_ms=RESET_MS)
        audit = Audit(_HUB, "", at_ms)
        audit.note("link_mailed", f"account:{account.id}", kind="forgot")
        audit.write(connection)
        return Prepared(RESET, {"link": f"{pages}/welcome/{token}"}, account.email)
    issuers = [urlsplit(row.issuer).hostname or "" for row in ways if row.kind == "oidc"]
    if not issuers:
        return None
    return Prepared(AT_ISSUER, {"issuer": issuers[0], "pages": pages}, account.email)
