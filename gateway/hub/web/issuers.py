"""Signing in at an issuer: the way there and back."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from gateway.errors import RefusedError
from gateway.hub.accounts import oidc, sign_in
from gateway.hub.store.engine import now_ms
from gateway.hub.web.gate import PUBLIC, safe_next
from gateway.hub.web.office import Office
from gateway.hub.web.sign_in import Next, browser_of
from gateway.webkit.problems import Problem

_STATE_COOKIE = "tapgate-hub-oidc"
_STATE_PATH = "/sign-in/at"


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    gate, store = office.gate, office.store
    settings = gate.access.sign_in
    issuers: dict[str, oidc.Issuer] = {}
    if settings is not None:
        for item in settings.issuers:
            issuers[item.name] = oidc.Issuer(item, f"{settings.public_url}{_STATE_PATH}/{item.name}/back")

    def issuer_of(name: str) -> oidc.Issuer:
        if name not in issuers:
            raise Problem(404, "not-found", "No such issuer", "There is no such way to sign in here.")
        return issuers[name]

    @office.app.get("/sign-in/at/{name}", include_in_schema=False, dependencies=[PUBLIC])
    def begin(
        request: Request,
        name: str,
        next: Next = "/",  # noqa: A002  # the field's name
        invitation: Annotated[str, Query(max_length=100)] = "",
    ) -> Response:
        issuer = issuer_of(name)
        with store.write() as connection:
            address, state = issuer.begin(connection, now_ms(), safe_next(next), invitation)
        response = RedirectResponse(address, 303)
        # Lax: the browser comes back from another site, and has to show that it left from here.
        response.set_cookie(
            _STATE_COOKIE,
            state,
            max_age=600,
            path="/sign-in/at",
            secure=gate.is_safe(request),
            httponly=True,
            samesite="lax",
        )
        return response

    @office.app.get("/sign-in/at/{name}/back", include_in_schema=False, dependencies=[PUBLIC])
    def come_back(
        request: Request,
        name: str,
        code: Annotated[str, Query(max_length=4000)] = "",
        state: Annotated[str, Query(max_length=100)] = "",
    ) -> Response:
        issuer = issuer_of(name)
        left_with = request.cookies.get(_STATE_COOKIE, "")
        if not code or not state or not hmac.compare_digest(left_with.encode(), state.encode()):
            raise RefusedError(f"{name} did not let you in, or you began in another browser; begin again.")
        at_ms = now_ms()
        with store.write() as connection:
            payload = oidc.used_state(connection, state, name, at_ms)
        identity = issuer.finish(code, payload, at_ms)
        with store.write() as connection:
            account = oidc.account_of(connection, identity, payload["invitation"], at_ms)
            signed = sign_in.by_issuer(connection, account, browser_of(request), at_ms)
        # A page of ours in between: the session's cookie is not sent while the browser still follows another site.
        response = office.site.page(request, "signed_in.html", "Signed in", {"next": safe_next(payload["next"])})
        gate.keep(request, response, signed.token)
        response.delete_cookie(_STATE_COOKIE, path=_STATE_PATH)
        return response
