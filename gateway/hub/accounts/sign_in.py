"""Signing in: by password and a second step, or by an issuer; what every page of it asks this module to do."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from gateway.errors import RefusedError
from gateway.hub.accounts import sessions, two_step
from gateway.hub.accounts.attempts import (
    BY_ACCOUNT,
    BY_ADDRESS,
    BY_CODE,
    Limit,
    forget_attempts,
    note_attempt,
    wait_seconds,
)
from gateway.hub.accounts.passwords import hash_password, is_password, why_weak
from gateway.hub.accounts.people import Account, Vouched, activate, find_account, needs_two_steps
from gateway.hub.accounts.sealing import Seal
from gateway.hub.accounts.tokens import Kind, end_one_time, look_at_one_time, use_one_time
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms

WRONG = "The address or the password is wrong."
WRONG_CODE = "This code is wrong, too old or was used before; wait for the next one."
OVER = "This link works no more; ask whoever sent it for a new one."
_EMAIL_CHARS = 254
_WELCOMED: tuple[Kind, ...] = ("invite", "reset", "forgot")


class TooManyAttempts(RefusedError):
    """Attempts came too fast; `seconds` says how long to wait."""

    def __init__(self, seconds: int) -> None:
        minutes = -(-seconds // 60)
        super().__init__(f"There were too many attempts; try again in {minutes} minute{'s' if minutes > 1 else ''}.")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that was opened; its token goes into the browser's cookie."""

    token: str
    account: Account
    stage: str


@dataclass(frozen=True, slots=True)
class Proofs:
    """By what an account can prove who it is; `issuers` by the addresses that hub.toml has for them."""

    has_password: bool
    has_code: bool
    issuers: frozenset[str]


def by_password(store: Store, email: str, password: str, browser: str, address: str | None) -> SignedIn:
    """Sign in with a password.

    Args:
        address: where the request comes from; None when nobody can tell, as behind a proxy.

    Raises:
        TooManyAttempts, RefusedError: what the page shows; whether there is such an account stays untold.
    """
    at_ms = now_ms()
    key = email.strip().casefold()[:_EMAIL_CHARS]
    with store.write() as connection:
        _brake(connection, key, address, at_ms)
        account = find_account(connection, email=key)
        stored = _password_of(connection, account.id) if account and account.state == "active" else None
    if not is_password(stored, password) or account is None:
        raise RefusedError(WRONG)
    with store.write() as connection:
        forget_attempts(connection, BY_ACCOUNT, key)
        return _open(connection, account, "password", browser, at_ms)


def brake(connection: Connection, limit: Limit, key: str, at_ms: int) -> None:
    """Count an attempt.

    Raises:
        TooManyAttempts: there were too many before it.
    """
    if seconds := wait_seconds(connection, limit, key, at_ms):
        raise TooManyAttempts(seconds)
    note_attempt(connection, limit, key, at_ms)


def _brake(connection: Connection, key: str, address: str | None, at_ms: int) -> None:
    limits = [(BY_ACCOUNT, key)] if address is None else [(BY_ACCOUNT, key), (BY_ADDRESS, address)]
    if seconds := max(wait_seconds(connection, limit, of, at_ms) for limit, of in limits):
        raise TooManyAttempts(seconds)
    for limit, of in limits:
        note_attempt(connection, limit, of, at_ms)


def _password_of(connection: Connection, account: int) -> str | None:
    way = tables.sign_in_way
    query = select(way.c.secret).where(way.c.account == account, way.c.kind == "password")
    return connection.scalar(query)


def _open(
    connection: Connection, account: Account, way: str, browser: str, at_ms: int, *, proved_ms: int | None = None
) -> SignedIn:
    # An issuer that the school has chosen sees to second steps itself.
    stage: sessions.Stage = "full"
    if way == "password" and two_step.has_second_step(connection, account.id):
        stage = "code"
    elif way == "password" and needs_two_steps(connection, account.id, at_ms):
        stage = "setup"
    token = sessions.open_session(connection, account.id, stage, way, browser, at_ms, proved_ms=proved_ms)
    if stage != "code":
        _note(connection, account, "signed_in", at_ms, way=way)
    return SignedIn(token, account, stage)


def by_issuer(connection: Connection, account: Vouched, browser: str, at_ms: int) -> SignedIn:
    """Open a session for somebody whom an issuer vouches for."""
    activate(connection, account.id)
    return _open(connection, account, "oidc", browser, at_ms, proved_ms=account.proved_ms)


def by_code(store: Store, seal: Seal, session: sessions.Session, code: str, browser: str) -> SignedIn:
    """Take the second step; the session gets a new token.

    Raises:
        TooManyAttempts, RefusedError: what the page shows.
    """
    at_ms = now_ms()
    key = str(session.account)
    with store.write() as connection:
        brake(connection, BY_CODE, key, at_ms)
    with store.write() as connection:
        account = find_account(connection, id=session.account)
        way = two_step.check(connection, seal, session.account, code, at_ms)
        if way is None or account is None:
            raise RefusedError(WRONG_CODE)
        forget_attempts(connection, BY_CODE, key)
        sessions.end_session(connection, session.token_hash, session.account)
        token = sessions.open_session(connection, session.account, "full", session.way, browser, at_ms)
        _note(connection, account, "signed_in", at_ms, way=f"password and {way}")
    return SignedIn(token, account, "full")


def prove_again(store: Store, seal: Seal, session: sessions.Session, password: str, code: str) -> None:
    """Prove once more who one is, in a session that is open already: by the password, and the code where there is one.

    Whoever has no password proves it by the code alone, or signs in at the issuer again.

    Raises:
        TooManyAttempts, RefusedError: what the page shows.
    """
    at_ms = now_ms()
    key = str(session.account)
    with store.write() as connection:
        brake(connection, BY_CODE, key, at_ms)
        stored = _password_of(connection, session.account)
        has_step = two_step.has_second_step(connection, session.account)
    if not is_password(stored, password) and (stored is not None or not has_step):
        raise RefusedError("The password is wrong.")
    with store.write() as connection:
        if has_step and two_step.check(connection, seal, session.account, code, at_ms) is None:
            raise RefusedError(WRONG_CODE)
        forget_attempts(connection, BY_CODE, key)
        sessions.prove(connection, session, at_ms)


def proofs(connection: Connection, account: int) -> Proofs:
    """Return by what an account can prove once more who it is."""
    way = tables.sign_in_way
    rows = connection.execute(select(way.c.kind, way.c.issuer).where(way.c.account == account)).all()
    kinds = {row.kind for row in rows}
    issuers = frozenset(row.issuer for row in rows if row.kind == "oidc")
    return Proofs("password" in kinds, "totp" in kinds, issuers)


def welcome(store: Store, token: str, password: str, browser: str) -> SignedIn:
    """Use an invitation or a reset link: set the password, end other sessions, sign in.

    Raises:
        RefusedError: the link works no more, or the password is too weak.
    """
    at_ms = now_ms()
    with store.read() as connection:
        account = welcomed(connection, token, at_ms)
    if why := why_weak(password, account.email):
        raise RefusedError(why)
    hashed = hash_password(password)
    with store.write() as connection:
        used = use_one_time(connection, token, _WELCOMED, at_ms)
        if used is None or used.account != account.id:
            raise RefusedError(OVER)
        activate(connection, account.id)
        if used.payload.get("two_step") == "remove":
            two_step.remove(connection, account.id)
        _set_password(connection, account, hashed, at_ms, by=f"{used.kind} link")
        sessions.end_sessions(connection, account.id)
        return _open(connection, account, "password", browser, at_ms)


def welcomed(connection: Connection, token: str, at_ms: int) -> Account:
    """Return whose invitation or reset link this is.

    Raises:
        RefusedError: it works no more.
    """
    found = look_at_one_time(connection, token, _WELCOMED, at_ms)
    account = find_account(connection, id=found.account) if found and found.account else None
    if account is None or account.state == "ended":
        raise RefusedError(OVER)
    return account


def change_password(store: Store, session: sessions.Session, old: str, new: str) -> None:
    """Change one's own password and end one's other sessions.

    Raises:
        TooManyAttempts, RefusedError: what the page shows.
    """
    at_ms = now_ms()
    key = str(session.account)
    with store.write() as connection:
        brake(connection, BY_CODE, key, at_ms)
        stored = _password_of(connection, session.account)
        account = find_account(connection, id=session.account)
    if account is None or (stored is not None and not is_password(stored, old)):
        raise RefusedError("The old password is wrong.")
    if why := why_weak(new, account.email):
        raise RefusedError(why)
    hashed = hash_password(new)
    with store.write() as connection:
        forget_attempts(connection, BY_CODE, key)
        _set_password(connection, account, hashed, at_ms, by="old password")
        sessions.end_sessions(connection, account.id, but=session.token_hash)


def _set_password(connection: Connection, account: Account, hashed: str, at_ms: int, *, by: str) -> None:
    way = tables.sign_in_way
    connection.execute(delete(way).where(way.c.account == account.id, way.c.kind == "password"))
    row = {"account": account.id, "kind": "password", "secret": hashed, "created_ms": at_ms}
    connection.execute(insert(way).values(row))
    # Whoever held a link to this account holds it no more.
    end_one_time(connection, account.id)
    _note(connection, account, "password_set", at_ms, by=by)


def _note(connection: Connection, account: Account, operation: str, at_ms: int, **detail: str) -> None:
    audit = Audit(account.actor, "", at_ms)
    audit.note(operation, f"account:{account.id}", **detail)
    audit.write(connection)
