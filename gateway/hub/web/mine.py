"""What somebody sees to about their own account: invitation, password, second step, sessions."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Form, Request, Response

from gateway.errors import RefusedError
from gateway.hub.accounts import people, sessions, sign_in, two_step
from gateway.hub.accounts.passwords import LEAST_CHARS
from gateway.hub.scope import Scope
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms
from gateway.hub.web.gate import PUBLIC, account_of, need, session_of
from gateway.hub.web.office import Office
from gateway.hub.web.sign_in import Code, Password, browser_of, enter, show
from gateway.webkit.problems import Problem

_Mine = Annotated[Scope, need(None)]
_Fresh = Annotated[Scope, need(None, stage="setup", fresh=True)]
_SECRET = re.compile(r"[A-Z2-7]{32}")


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    _add_welcome(office)
    _add_mine(office)
    _add_two_step(office)


def _add_welcome(office: Office) -> None:
    gate, store = office.gate, office.store

    def form(request: Request, token: str, error: RefusedError | None = None) -> Response:
        with store.read() as connection:
            account = sign_in.welcomed(connection, token, now_ms())
        issuers = gate.access.sign_in.issuers if gate.access.sign_in and account.state == "invited" else ()
        names = [item.name for item in issuers]
        context = {"email": account.email, "token": token, "issuers": names, "least": LEAST_CHARS}
        return show(office, request, "welcome.html", "Set your password", error, **context)

    @office.app.get("/welcome/{token}", include_in_schema=False, dependencies=[PUBLIC])
    def welcome_form(request: Request, token: str) -> Response:
        return form(request, token)

    @office.app.post("/welcome/{token}", include_in_schema=False, dependencies=[PUBLIC])
    def welcome_now(request: Request, token: str, password: Password) -> Response:
        try:
            signed = sign_in.welcome(store, token, password, browser_of(request))
        except RefusedError as error:
            return form(request, token, error)
        return enter(office, request, signed, "/")


def _add_mine(office: Office) -> None:
    gate, store = office.gate, office.store

    def mine(request: Request, scope: Scope, error: RefusedError | None = None, note: str = "") -> Response:
        account, at_ms = account_of(scope), now_ms()
        with store.read() as connection:
            found = sessions.list_sessions(connection, account, at_ms)
            context = {
                "proofs": sign_in.proofs(connection, account),
                "grants": people.list_grants(connection, at_ms, [account]),
                "sessions": [(item, from_ms(item.seen_ms)) for item in found],
                "this": session_of(request).token_hash,
            }
        return show(office, request, "me.html", "Your account", error, note=note, least=LEAST_CHARS, **context)

    @office.app.get("/me", include_in_schema=False)
    def me(request: Request, scope: _Mine) -> Response:
        return mine(request, scope)

    @office.app.post("/me/password", include_in_schema=False)
    def change_password(request: Request, scope: _Mine, new: Password, old: Password = "") -> Response:
        account = account_of(scope)
        with store.read() as connection:
            has_password = sign_in.proofs(connection, account).has_password
        if not has_password:
            # There is no old one to prove who this is, and whoever sets one can prove themselves by it from then on.
            gate.require_proof(request, session_of(request))
        try:
            sign_in.change_password(store, session_of(request), old, new)
        except RefusedError as error:
            return mine(request, scope, error)
        return mine(request, scope, note="Your password is changed; your other sessions have ended.")

    @office.app.post("/me/sessions/end", include_in_schema=False)
    def end_others(request: Request, scope: _Mine) -> Response:
        with store.write() as connection:
            count = sessions.end_sessions(connection, account_of(scope), but=session_of(request).token_hash)
        return mine(request, scope, note=f"{count} other session{'s have' if count != 1 else ' has'} ended.")


def _add_two_step(office: Office) -> None:
    gate, store = office.gate, office.store

    def setup_form(request: Request, scope: Scope, secret: str, error: RefusedError | None = None) -> Response:
        link = two_step.otpauth_link(secret, scope.actor.partition(":")[2])
        return show(office, request, "two_step.html", "Second step", error, secret=secret, link=link)

    @office.app.get("/me/two-step", include_in_schema=False)
    def two_step_form(request: Request, scope: _Fresh) -> Response:
        account_of(scope)
        return setup_form(request, scope, two_step.new_secret())

    @office.app.post("/me/two-step", include_in_schema=False)
    def two_step_now(
        request: Request, scope: _Fresh, secret: Annotated[str, Form(max_length=32)], code: Code
    ) -> Response:
        account, at_ms = account_of(scope), now_ms()
        if not _SECRET.fullmatch(secret):
            raise Problem(422, "invalid", "Not a secret", "Reload the page and set the second step up again.")
        step = two_step.step_of_code(secret, code, at_ms)
        if step is None:
            why = "This is not the code of now; check the telephone's clock and type the next one."
            return setup_form(request, scope, secret, RefusedError(why))
        session = session_of(request)
        with store.write() as connection:
            audit = Audit(scope.actor, "", at_ms)
            codes = two_step.set_up(connection, gate.seal, account, secret, step, audit)
            audit.write(connection)
            sessions.end_sessions(connection, account)
            token = sessions.open_session(connection, account, "full", session.way, session.browser, at_ms)
        response = show(office, request, "recovery_codes.html", "Recovery codes", codes=codes)
        gate.keep(request, response, token)
        return response
