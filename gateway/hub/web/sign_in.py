"""Signing in and out of the pages: password, second step, and once more before what gives others access."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from gateway.errors import RefusedError
from gateway.hub.accounts import links, sessions, sign_in
from gateway.hub.accounts.passwords import MOST_CHARS
from gateway.hub.scope import Scope
from gateway.hub.store.engine import now_ms
from gateway.hub.web.gate import (
    PUBLIC,
    SIGN_IN,
    SIGN_IN_AGAIN,
    SIGN_IN_CODE,
    TWO_STEP,
    ProveFirst,
    account_of,
    address_of,
    need,
    safe_next,
    session_of,
)
from gateway.hub.web.office import Office

Next = Annotated[str, Query(max_length=2000)]
NextField = Annotated[str, Form(max_length=2000)]
Password = Annotated[str, Form(max_length=4 * MOST_CHARS)]
Code = Annotated[str, Form(max_length=40)]
_Fields = list[tuple[str, str]]
_InCode = Annotated[Scope, need(None, stage="code")]
_InSetup = Annotated[Scope, need(None, stage="setup")]


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    _add_password(office)
    _add_code(office)
    _add_again(office)
    _add_forgot(office)


def browser_of(request: Request) -> str:
    """Return what a browser calls itself."""
    return request.headers.get("user-agent", "")


def show(
    office: Office, request: Request, template: str, title: str, error: RefusedError | None = None, **context: Any
) -> Response:
    """Show a form, with what was wrong with the last one."""
    status = 200 if error is None else 429 if isinstance(error, sign_in.TooManyAttempts) else 403
    shown = {"error": None if error is None else str(error), **context}
    response = office.site.page(request, template, title, shown, status)
    if isinstance(error, sign_in.TooManyAttempts):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def enter(office: Office, request: Request, signed: sign_in.SignedIn, onward: str) -> Response:
    """Let somebody in, by way of what they have to do first."""
    address = {"code": SIGN_IN_CODE, "setup": TWO_STEP}.get(signed.stage, safe_next(onward))
    response = RedirectResponse(address, 303)
    office.gate.keep(request, response, signed.token)
    return response


def _add_password(office: Office) -> None:
    gate, store = office.gate, office.store

    def form(request: Request, onward: str, error: RefusedError | None = None, email: str = "") -> Response:
        issuers = gate.access.sign_in.issuers if gate.access.sign_in else ()
        names = [item.name for item in issuers]
        return show(office, request, "sign_in.html", "Sign in", error, next=onward, email=email, issuers=names)

    @office.app.get("/sign-in", include_in_schema=False, dependencies=[PUBLIC])
    def sign_in_form(request: Request, next: Next = "/") -> Response:  # noqa: A002  # the field's name
        return form(request, safe_next(next))

    @office.app.post("/sign-in", include_in_schema=False, dependencies=[PUBLIC])
    def sign_in_now(
        request: Request,
        email: Annotated[str, Form(max_length=300)],
        password: Password,
        next: NextField = "/",  # noqa: A002  # the field's name
    ) -> Response:
        try:
            signed = sign_in.by_password(store, email, password, browser_of(request), address_of(request))
        except RefusedError as error:
            return form(request, safe_next(next), error, email)
        return enter(office, request, signed, next)

    @office.app.post("/sign-out", include_in_schema=False, dependencies=[PUBLIC])
    def sign_out(request: Request) -> Response:
        session = gate.session(request)
        if session is not None:
            with store.write() as connection:
                sessions.end_session(connection, session.token_hash, session.account)
        response = RedirectResponse("/sign-in", 303)
        gate.forget(request, response)
        return response


def _add_code(office: Office) -> None:
    gate, store = office.gate, office.store

    @office.app.get("/sign-in/code", include_in_schema=False)
    def code_form(request: Request, scope: _InCode) -> Response:
        del scope
        return show(office, request, "sign_in_code.html", "Second step")

    @office.app.post("/sign-in/code", include_in_schema=False)
    def code_now(request: Request, scope: _InCode, code: Code) -> Response:
        del scope
        try:
            signed = sign_in.by_code(store, gate.seal, session_of(request), code, browser_of(request))
        except RefusedError as error:
            return show(office, request, "sign_in_code.html", "Second step", error)
        return enter(office, request, signed, "/")


def _add_again(office: Office) -> None:
    gate, store = office.gate, office.store

    def form(
        request: Request, account: int, onward: str, carried: _Fields | None, error: RefusedError | None = None
    ) -> Response:
        with store.read() as connection:
            proofs = sign_in.proofs(connection, account)
        settings = gate.access.sign_in
        issuers = [item.name for item in settings.issuers if item.issuer in proofs.issuers] if settings else []
        # An issuer's page loses the form, so from there it goes back to the page that had it.
        back = onward if carried is None else f"/{onward.split('/')[1]}"
        again = f"{SIGN_IN_AGAIN}?next={quote(back)}"
        context: dict[str, Any] = {"next": onward, "back": again, "carried": carried}
        context |= {"proofs": proofs, "issuers": issuers}
        return show(office, request, "sign_in_again.html", "Confirm that it is you", error, **context)

    @office.app.get(SIGN_IN_AGAIN, include_in_schema=False)
    def again_form(request: Request, scope: _InSetup, next: Next = "/") -> Response:  # noqa: A002  # the field's name
        onward = safe_next(next)
        if session_of(request).is_fresh(now_ms()):
            return RedirectResponse(onward, 303)
        return form(request, account_of(scope), onward, None)

    @office.app.post(SIGN_IN_AGAIN, include_in_schema=False)
    def again_now(
        request: Request,
        scope: _InSetup,
        carried: Annotated[_Fields, Depends(_carried)],
        own_password: Password = "",
        own_code: Code = "",
        next: Next = "/",  # noqa: A002  # the field's name
        carry: Annotated[bool, Query()] = False,
    ) -> Response:
        onward = safe_next(next)
        try:
            sign_in.prove_again(store, gate.seal, session_of(request), own_password, own_code)
        except RefusedError as error:
            return form(request, account_of(scope), onward, carried if carry else None, error)
        # 307 makes the browser send the form on, so that it is done as it was filled in.
        return RedirectResponse(onward, 307 if carry else 303)

    async def prove_first(request: Request, error: Exception) -> Response:
        del error
        fields = await _carried(request)
        return await run_in_threadpool(ask, request, fields)

    def ask(request: Request, fields: _Fields) -> Response:
        session = gate.session(request)
        if session is None:
            return RedirectResponse(SIGN_IN, 303)
        return form(request, session.account, safe_next(request.url.path), fields)

    office.app.exception_handler(ProveFirst)(prove_first)


async def _carried(request: Request) -> _Fields:
    """Return the fields of a form that waits for a proof, without those of the proof."""
    found = (await request.form()).multi_items()
    return [(name, value) for name, value in found if isinstance(value, str) and not name.startswith("own_")]


def _add_forgot(office: Office) -> None:
    mailer, store = office.gate.access.mailer, office.store

    def form(request: Request, error: RefusedError | None = None, *, is_done: bool = False) -> Response:
        shown = {"is_mailed": mailer is not None, "is_done": is_done}
        return show(office, request, "sign_in_forgot.html", "Forgot your password?", error, **shown)

    @office.app.get("/sign-in/forgot", include_in_schema=False, dependencies=[PUBLIC])
    def forgot_form(request: Request) -> Response:
        return form(request)

    @office.app.post("/sign-in/forgot", include_in_schema=False, dependencies=[PUBLIC])
    def forgot_now(request: Request, email: Annotated[str, Form(max_length=300)]) -> Response:
        if mailer is None:
            return form(request)
        try:
            links.request_reset(store, mailer, email, address_of(request))
        except RefusedError as error:
            return form(request, error)
        return form(request, is_done=True)
