"""Signing in at an issuer by OpenID Connect: authorization code with PKCE, state and nonce of our own.

Issuer and audience are pinned by hub.toml, and for Microsoft the tenant with them. Somebody is known by the issuer's
subject, never by an address: an account is linked to it by an invitation, or once by a verified address in a staff
domain of a site.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import Connection, insert, select

from gateway.config import IssuerSettings
from gateway.errors import RefusedError
from gateway.hub.accounts.people import (
    NAME_CHARS,
    Account,
    Vouched,
    add_grant,
    create_account,
    find_account,
    norm_email,
    sites_of_domain,
)
from gateway.hub.accounts.tokens import OIDC_MS, make_one_time, use_one_time
from gateway.hub.scope import Grant, Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit

ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
# The page that asks once more who somebody is; a sign-in that leads there is made to prove it, not to remember it.
AGAIN = "/sign-in/again"
MICROSOFT, GOOGLE = "login.microsoftonline.com", "accounts.google.com"
_TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 1 << 18
_KEPT_SECONDS, _AGAIN_SECONDS = 600.0, 30.0
_LEEWAY_SECONDS = 60
_SUBJECT_CHARS = 255
NOT_LINKED = (
    "You are signed in there, but no account of this hub is linked to it; ask the school's office for an invitation."
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an issuer says somebody is.

    Attributes:
        email: None where it does not vouch for an address.
        proved_ms: when they proved it there; 0 when it does not say, as for a browser that it knows since this morning.
    """

    issuer: str
    subject: str
    email: str | None
    name: str
    proved_ms: int = 0


class Issuer:
    """One issuer of hub.toml; what it publishes is fetched when it is needed and kept for ten minutes.

    Args:
        redirect_url: where the issuer sends browsers back to; must be registered there to the letter.
    """

    def __init__(self, settings: IssuerSettings, redirect_url: str) -> None:
        self._settings, self._redirect_url = settings, redirect_url
        self._lock = threading.Lock()
        self._published: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._fetched = float("-inf")

    @property
    def name(self) -> str:
        return self._settings.name

    def begin(self, connection: Connection, at_ms: int, onward: str, invitation: str) -> tuple[str, str]:
        """Begin a sign-in; return the address at the issuer and the state that the browser keeps meanwhile.

        Raises:
            RefusedError: the issuer cannot be reached.
        """
        published = self._look_up()
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        is_again = onward.startswith(AGAIN)
        payload: dict[str, Any] = {"issuer": self.name, "nonce": nonce, "verifier": verifier, "again": is_again}
        payload |= {"next": onward, "invitation": invitation}
        state = make_one_time(connection, "oidc", at_ms, lasts_ms=OIDC_MS, payload=payload)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_url,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if is_again:
            # Google knows no way to ask for a password anew, and refuses a prompt that it does not know.
            is_google = urlsplit(self._settings.issuer).hostname == GOOGLE
            query |= {"prompt": "select_account"} if is_google else {"prompt": "login", "max_age": "0"}
        address = _endpoint(published, "authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", state

    def finish(self, code: str, payload: Mapping[str, Any], at_ms: int) -> Identity:
        """Exchange the code that a browser came back with, and read who it is.

        Args:
            payload: what `begin` stored and the state found again.

        Raises:
            RefusedError: the issuer refused the code, or its token is not for us, not fresh or not signed by it.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "client_id": self._settings.client_id,
            "client_secret": self._settings.read_secret(),
            "code_verifier": payload["verifier"],
        }
        answer = self._ask("POST", _endpoint(self._look_up(), "token_endpoint"), form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise RefusedError(f"{self.name} did not confirm this sign-in; try again.")
        return self._read(token, payload, at_ms)

    def _read(self, token: str, payload: Mapping[str, Any], at_ms: int) -> Identity:
        try:
            claims = self._decode(token).claims
            registry = jwt.JWTClaimsRegistry(
                now=at_ms // 1000,
                leeway=_LEEWAY_SECONDS,
                iss={"essential": True, "value": self._settings.issuer},
                aud={"essential": True, "value": self._settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": payload["nonce"]},
                sub={"essential": True},
            )
            registry.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            # The class says enough, such as ExpiredTokenError; its text may quote the token.
            raise RefusedError(
                f"What {self.name} sent back cannot be trusted ({type(error).__name__}); try again, and check the "
                "issuer, the client_id and this machine's clock if it goes on."
            ) from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._settings.client_id:
            raise RefusedError(f"What {self.name} sent back is meant for another program; check the client_id.")
        return self._identity(claims, _proved_ms(claims, at_ms, is_again=payload.get("again", False)))

    def _identity(self, claims: Mapping[str, Any], proved_ms: int = 0) -> Identity:
        subject = str(claims["sub"])
        if urlsplit(self._settings.issuer).hostname == MICROSOFT:
            # `sub` differs for each program there; tenant and object are the person, and the tenant is in the issuer.
            subject = f"{claims.get('tid')}+{claims.get('oid')}"
        if not subject or len(subject) > _SUBJECT_CHARS or "None" in subject.split("+"):
            raise RefusedError(f"{self.name} does not say who this is; its token lacks a subject.")
        name = claims.get("name")
        name = name[:NAME_CHARS] if isinstance(name, str) else ""
        return Identity(self._settings.issuer, subject, self._email(claims), name, proved_ms)

    def _email(self, claims: Mapping[str, Any]) -> str | None:
        """Return the address that the issuer vouches for, None where it only repeats what somebody typed."""
        email = claims.get("email")
        is_verified = claims.get("email_verified") in (True, "true") or claims.get("xms_edov") in (True, "1", "true")
        if not isinstance(email, str) or not is_verified:
            return None
        if urlsplit(self._settings.issuer).hostname == GOOGLE and claims.get("hd") != email.rpartition("@")[2]:
            # Anybody may open a Google account with an address of another domain; only `hd` says whose it is.
            return None
        return email

    def _decode(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._key_set(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # Signed with a key that it published since we last looked, or not signed by it at all.
            if time.monotonic() - self._fetched < _AGAIN_SECONDS:
                raise
            self._fetched = float("-inf")
            return jwt.decode(token, self._key_set(), algorithms=ALGORITHMS)

    def _key_set(self) -> KeySet:
        self._look_up()
        assert self._keys is not None
        return self._keys

    def _look_up(self) -> Mapping[str, Any]:
        with self._lock:
            if time.monotonic() - self._fetched < _KEPT_SECONDS:
                return self._published
            published = self._ask("GET", f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
            if published.get("issuer") != self._settings.issuer:
                raise RefusedError(
                    f"{self.name} calls itself another issuer than hub.toml does; write the issuer exactly as its "
                    "openid-configuration has it."
                )
            try:
                self._keys = KeySet.import_key_set(self._ask("GET", _endpoint(published, "jwks_uri")))  # type: ignore[arg-type]  # checked by the library
            except (JoseError, ValueError, TypeError, KeyError):
                raise RefusedError(f"The keys that {self.name} publishes cannot be read; try again later.") from None
            self._published, self._fetched = published, time.monotonic()
            return published

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        import httpx2  # noqa: PLC0415  # only a sign-in at an issuer needs it

        body = b""
        try:
            with (
                httpx2.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as client,
                client.stream(method, url, data=form, headers={"Accept": "application/json"}) as answer,
            ):
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise RefusedError(f"{self.name} answers with far too much; try again later.")
                status = answer.status_code
        except httpx2.HTTPError as error:
            raise RefusedError(
                f"{self.name} cannot be reached ({type(error).__name__}); sign in with a password, or try again later."
            ) from None
        found = _as_object(body)
        if status != 200 or found is None:
            raise RefusedError(
                f"{self.name} refused ({status}{_word(found)}); check client_id, secret_file and the redirect address "
                "that is registered there."
            )
        return found


def _proved_ms(claims: Mapping[str, Any], at_ms: int, *, is_again: bool) -> int:
    at = claims.get("auth_time")
    if isinstance(at, int):
        return max(0, min(at * 1000, at_ms))
    return at_ms if is_again else 0


def _as_object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _word(found: Mapping[str, Any] | None) -> str:
    # An OAuth error is a fixed word; its description may name the person.
    word = (found or {}).get("error")
    return f", {word}" if isinstance(word, str) and word.isidentifier() else ""


def _endpoint(published: Mapping[str, Any], name: str) -> str:
    address = published.get(name)
    parts = urlsplit(address) if isinstance(address, str) else None
    is_safe = parts is not None and (parts.scheme == "https" or parts.hostname in {"127.0.0.1", "localhost", "::1"})
    if not is_safe or not isinstance(address, str):
        raise RefusedError(f"The issuer publishes no usable {name}; ask whoever runs it.")
    return address


def used_state(connection: Connection, state: str, name: str, at_ms: int) -> Mapping[str, Any]:
    """Return what was stored when this sign-in began, and use it up.

    Raises:
        RefusedError: it did not begin here, is over, or came back a second time.
    """
    found = use_one_time(connection, state, ("oidc",), at_ms)
    if found is None or found.payload.get("issuer") != name:
        raise RefusedError("This sign-in did not begin here or took too long; begin again.")
    return found.payload


def account_of(connection: Connection, identity: Identity, invitation: str, at_ms: int) -> Vouched:
    """Return the account that an identity stands for; link it now if an invitation or its address allows that.

    Raises:
        RefusedError: there is none.
    """
    way = tables.sign_in_way
    query = select(way.c.account).where(way.c.issuer == identity.issuer, way.c.subject == identity.subject)
    number = connection.scalar(query)
    if number is not None:
        account = find_account(connection, id=number)
        if account is None or account.state == "ended":
            raise RefusedError(NOT_LINKED)
        return _vouched(account, identity)
    account = _invited(connection, invitation, at_ms) or _of_staff(connection, identity, at_ms)
    audit = Audit(account.actor, "", at_ms)
    row = {"account": account.id, "kind": "oidc", "issuer": identity.issuer, "subject": identity.subject}
    connection.execute(insert(way).values(**row, created_ms=at_ms))
    audit.note("issuer_linked", f"account:{account.id}", issuer=identity.issuer)
    audit.write(connection)
    return _vouched(account, identity)


def _vouched(account: Account, identity: Identity) -> Vouched:
    return Vouched(account.id, account.email, account.name, account.state, identity.proved_ms)


def _invited(connection: Connection, invitation: str, at_ms: int) -> Account | None:
    if not invitation:
        return None
    found = use_one_time(connection, invitation, ("invite",), at_ms)
    account = find_account(connection, id=found.account) if found and found.account else None
    return account if account and account.state != "ended" else None


def _of_staff(connection: Connection, identity: Identity, at_ms: int) -> Account:
    sites = sites_of_domain(connection, identity.email) if identity.email else []
    if not sites or identity.email is None:
        raise RefusedError(NOT_LINKED)
    account = find_account(connection, email=norm_email(identity.email))
    if account is not None:
        if account.state == "ended":
            raise RefusedError(NOT_LINKED)
        return account
    audit = Audit(f"account:{identity.email}", "", at_ms)
    account = create_account(connection, identity.email, identity.name, audit)
    for site in sites:
        add_grant(connection, account.id, Grant(site, Role.STAFF), audit)
    audit.write(connection)
    return account
