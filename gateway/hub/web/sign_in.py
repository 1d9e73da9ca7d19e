"""Signing in and out of the pages: password, second step, and once more before what gives others access."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from gateway.errors import RefusedError
from gateway.hub.accounts import links, sessions, sign_in, two_step
from gateway.hub.accounts.passwords import MOST_CHARS
from gateway.hub.scope import Scope
from gateway.hub.web.gate import PUBLIC, SIGN_IN_CODE, TWO_STEP, account_of, address_of, need, safe_next, session_of
from gateway.hub.web.office import Office

Next = Annotated[str, Query(max_length=2000)]
NextField = Annotated[str, Form(max_length=2000)]
Password = Annotated[str, Form(max_length=4 * MOST_CHARS)]
Code = Annotated[str, Form(max_length=40)]
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

    @office.app.get("/sign-in/again", include_in_schema=False)
    def again_form(request: Request, scope: _InSetup, next: Next = "/") -> Response:  # noqa: A002  # the field's name
        return show(office, request, "sign_in_again.html", "Confirm that it is you", **_again(scope, next))

    @office.app.post("/sign-in/again", include_in_schema=False)
    def again_now(
        request: Request,
        scope: _InSetup,
        password: Password,
        code: Code = "",
        next: NextField = "/",  # noqa: A002  # the field's name
    ) -> Response:
        try:
            sign_in.prove_again(store, gate.seal, session_of(request), password, code)
        except RefusedError as error:
            context = _again(scope, next)
            return show(office, request, "sign_in_again.html", "Confirm that it is you", error, **context)
        return RedirectResponse(safe_next(next), 303)

    def _again(scope: Scope, onward: str) -> dict[str, Any]:
        with store.read() as connection:
            return {"next": safe_next(onward), "has_code": two_step.has_second_step(connection, account_of(scope))}


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
