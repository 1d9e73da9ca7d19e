"""The gate of the hub's pages: every address says which right it needs, and whoever lacks it stays out.

A browser is known by its session, a program by its token. While nobody has an account and hub.toml has no [sign_in],
the pages are a trial on this machine only and open to whoever works there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from gateway.config import SignInSettings, is_loopback
from gateway.config.sign_in import IDLE_MINUTES
from gateway.errors import StoreUnavailable
from gateway.hub.accounts import oidc, people, sessions, tokens
from gateway.hub.accounts.links import Mailer
from gateway.hub.accounts.sealing import Seal
from gateway.hub.directory.cards import by_hand
from gateway.hub.scope import Reach, Right, Scope, everything
from gateway.hub.store.engine import Store, now_ms
from gateway.webkit.problems import Problem, wants_page

SIGN_IN, SIGN_IN_CODE, SIGN_IN_AGAIN, TWO_STEP = "/sign-in", "/sign-in/code", oidc.AGAIN, "/me/two-step"
_PLAIN_COOKIE, _SAFE_COOKIE = "tapgate-hub", "__Host-tapgate-hub"
_TRIAL = (
    "Nobody has to sign in yet, so these pages open on this machine only. Create the first account with: "
    "tapgate accounts create --role org-admin --email you@school.example"
)


@dataclass(frozen=True, slots=True)
class Access:
    """What the gate is told by the settings.

    Attributes:
        sign_in: None without that section.
        names: host names that the pages answer to, besides the one of `sign_in`.
        state_dir: where the key lies that seals second steps.
        base: the folder of hub.toml, from which relative paths of sources start.
        mailer: mails links to accounts; None where hub.toml has no [mail] or no [sign_in].
    """

    sign_in: SignInSettings | None = None
    names: tuple[str, ...] = ()
    state_dir: Path = Path()
    base: Path = Path()
    mailer: Mailer | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        return (*self.names, *([self.sign_in.host] if self.sign_in else []))


@dataclass(frozen=True, slots=True)
class Need:
    """What an address needs.

    Attributes:
        right: None for a page of the person who is signed in, such as their password.
        fresh: whether the person must have proved lately who they are, as for giving others a role.
        stages: of a session that may come in.
        is_use: whether asking for it counts as using the session.
    """

    right: Right | None
    least: Reach = Reach.ALL
    fresh: bool = False
    stages: tuple[str, ...] = ("full",)
    is_use: bool = True


class Elsewhere(Exception):
    """The browser has to go to another page first."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class ProveFirst(Exception):
    """The browser sent a form that is done only once the person has proved again who they are."""


def need(
    right: Right | None, least: Reach = Reach.ALL, *, fresh: bool = False, is_use: bool = True, stage: str = "full"
) -> Any:
    """Return the dependency of an address that needs a right; it hands the address the scope of whoever asks."""
    demand = Need(right, least, fresh, ("full",) if stage == "full" else (stage, "full"), is_use)

    def check(request: Request) -> Scope:
        return gate_of(request).admit(request, demand)

    return Depends(_declared(check, demand))


def _open_to_all() -> None:
    return None


def _declared(check: Callable[..., Any], demand: Need | None) -> Callable[..., Any]:
    check.__dict__["declares"] = demand
    return check


# For the few addresses that anybody may ask: signing in itself, and whether the hub is well.
PUBLIC = Depends(_declared(_open_to_all, None))


def declared(route: APIRoute) -> list[Need | None]:
    """Return what an address declares: one Need, or one None for everybody."""
    found = [dependency.call for dependency in route.dependant.dependencies]
    return [call.__dict__["declares"] for call in found if call is not None and "declares" in vars(call)]


def check_declared(app: FastAPI) -> None:
    """Refuse to build an application that has an address without a declared right."""
    for route in app.routes:
        if isinstance(route, APIRoute) and len(declared(route)) != 1:
            raise AssertionError(f"{route.path} must declare the one right that it needs (see web.gate.need)")


def gate_of(request: Request) -> Gate:
    return cast("Gate", request.app.state.gate)


class Gate:
    """Tells who asks, and lets them in or not."""

    def __init__(self, store: Store, access: Access) -> None:
        self.store, self.access = store, access
        self.seal = Seal(access.state_dir)
        self._has_accounts = False

    @property
    def idle_ms(self) -> int:
        settings = self.access.sign_in
        return (settings.session_idle_minutes if settings else IDLE_MINUTES) * 60_000

    def is_trial(self) -> bool:
        """Return whether nobody has to sign in yet."""
        if self.access.sign_in is not None or self._has_accounts:
            return False
        with self.store.read() as connection:
            # Accounts end and are never deleted, so a hub that had one stays closed.
            self._has_accounts = people.has_accounts(connection)
        return not self._has_accounts

    def admit(self, request: Request, demand: Need) -> Scope:
        """Return the scope of whoever asks.

        Raises:
            Problem: 401 or 403, for programs and for browsers that lack the right.
            Elsewhere: a browser has to sign in first.
        """
        scope = self._scope(request, demand)
        request.state.scope = scope
        if demand.right is not None and not scope.may(demand.right, demand.least):
            raise Problem(
                403, "not-yours", "Not for your account", "Your account may not do this; ask the school's IT."
            )
        return scope

    def _scope(self, request: Request, demand: Need) -> Scope:
        bearer = _bearer(request)
        if bearer is not None:
            return self._of_token(bearer)
        if self.is_trial():
            return everything(by_hand("office"))
        at_ms = now_ms()
        session = self.session(request)
        if session is None:
            raise _to_sign_in(request)
        if session.stage not in demand.stages:
            raise _elsewhere(request, SIGN_IN_CODE if session.stage == "code" else TWO_STEP)
        if demand.fresh:
            self.require_proof(request, session)
        request.state.session = session
        with self.store.read() as connection:
            account = people.find_account(connection, id=session.account)
            if account is None or account.state != "active":
                raise _to_sign_in(request)
            scope = people.scope_of_account(connection, account, at_ms)
        if demand.is_use and sessions.is_touch_due(session, at_ms):
            with contextlib.suppress(StoreUnavailable), self.store.write() as connection:
                sessions.touch(connection, session, at_ms)
        return scope

    def require_proof(self, request: Request, session: sessions.Session) -> None:
        """Return only if the person proved lately who they are.

        Raises:
            ProveFirst, Elsewhere: a browser has to ask for that first.
            Problem: 401, for programs.
        """
        if session.is_fresh(now_ms()):
            return
        if request.method == "POST" and wants_page(request):
            raise ProveFirst
        raise _elsewhere(request, f"{SIGN_IN_AGAIN}?next={quote(_here(request))}")

    def _of_token(self, token: str) -> Scope:
        at_ms = now_ms()
        with self.store.read() as connection:
            scope = tokens.scope_of_token(connection, token, at_ms)
            is_due = tokens.is_token_note_due(connection, token, at_ms)
        if scope is None:
            raise Problem(401, "token-wrong", "Token not known", "This token is unknown or has ended; make a new one.")
        if is_due:
            with contextlib.suppress(StoreUnavailable), self.store.write() as connection:
                tokens.note_token_seen(connection, token, at_ms)
        return scope

    def session(self, request: Request) -> sessions.Session | None:
        """Return the session of a browser, whatever its stage."""
        token = request.cookies.get(self._cookie(request))
        if not token:
            return None
        with self.store.read() as connection:
            return sessions.find_session(connection, token, self.idle_ms, now_ms())

    def keep(self, request: Request, response: Response, token: str) -> None:
        """Hand a session's token to the browser."""
        response.set_cookie(
            self._cookie(request), token, path="/", secure=self.is_safe(request), httponly=True, samesite="strict"
        )

    def forget(self, request: Request, response: Response) -> None:
        """Take the token back from the browser."""
        response.delete_cookie(
            self._cookie(request), path="/", secure=self.is_safe(request), httponly=True, samesite="strict"
        )

    def _cookie(self, request: Request) -> str:
        # Browsers take a __Host- cookie from a safe page only, and keep it from every other host.
        return _SAFE_COOKIE if self.is_safe(request) else _PLAIN_COOKIE

    def is_safe(self, request: Request) -> bool:
        if request.url.scheme == "https":
            return True
        # A proxy on this machine takes the TLS off; the name it was asked for says so.
        settings = self.access.sign_in
        return bool(
            settings
            and settings.public_url.startswith("https:")
            and request.headers.get("host", "").lower() == urlsplit(settings.public_url).netloc.lower()
        )

    def personal(self, request: Request) -> Mapping[str, Any]:
        """Return what every page shows of whoever asks: their navigation, their name, the note of a trial."""
        scope: Scope | None = getattr(request.state, "scope", None)
        if scope is None:
            return {"navigation": ()}
        if scope.account is None:
            return {"banner": _TRIAL} if scope.actor == by_hand("office") else {}
        return {"signed_in": scope.actor.partition(":")[2]}


def address_of(request: Request) -> str | None:
    """Return where a request comes from; None when a proxy on this machine hides it."""
    host = request.client.host if request.client else ""
    return None if not host or is_loopback(host) else host


def safe_next(address: str) -> str:
    """Return where to go on to: an address of these pages, else the first page."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours and "\\" not in address else "/"


def session_of(request: Request) -> sessions.Session:
    """Return the session that the gate let in.

    Raises:
        Problem: 404; a program or a trial has none.
    """
    session: sessions.Session | None = getattr(request.state, "session", None)
    if session is None:
        raise _no_account()
    return session


def account_of(scope: Scope) -> int:
    """Return whose scope this is.

    Raises:
        Problem: 404; a program or a trial has no account.
    """
    if scope.account is None:
        raise _no_account()
    return scope.account


def _no_account() -> Problem:
    return Problem(404, "not-found", "No account", "Nobody is signed in here, so there is no account to show.")


def missing(what: str) -> Problem:
    """Return the problem of something that does not exist or is another's: nobody learns which."""
    return Problem(404, "not-found", f"No such {what}", f"There is no such {what} here; reload the page.")


def require_site(scope: Scope, right: Right, site: str | None, what: str) -> str:
    """Return the site of something that the scope may touch.

    Raises:
        Problem: 404, whether it does not exist or is another school's: nobody learns which.
    """
    if site is None or site not in scope.sites(right):
        raise missing(what)
    return site


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _here(request: Request) -> str:
    if request.method != "GET":
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _to_sign_in(request: Request) -> Exception:
    here = _here(request)
    return _elsewhere(request, SIGN_IN if here == "/" else f"{SIGN_IN}?next={quote(here)}")


def _elsewhere(request: Request, address: str) -> Exception:
    if wants_page(request):
        return Elsewhere(address)
    detail = "Sign in first, or send a token as Authorization: Bearer."
    return Problem(401, "sign-in-needed", "Not signed in", detail)


async def go_elsewhere(request: Request, error: Exception) -> Response:
    """Send a browser to the page that it has to see first."""
    del request
    assert isinstance(error, Elsewhere)
    return RedirectResponse(error.address, 303)
