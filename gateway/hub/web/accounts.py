"""Who may sign in: invite, give and take roles, end; staff domains; tokens for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, select

from gateway.errors import RefusedError
from gateway.hub.accounts import links, people, tokens
from gateway.hub.scope import EVERYWHERE, SWITCHES, TOKEN_SCOPES, Grant, Right, Role, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.webkit.problems import Problem

_Reader = Annotated[Scope, need(Right.GRANT)]
_Granter = Annotated[Scope, need(Right.GRANT, fresh=True)]
_Site = Annotated[str, Form(max_length=63)]
_NOTHING = {"link": None, "token": None, "mailed_to": None}
_NOT_YOURS = "Your account may not give or take this role there; ask an administrator of the organisation."


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    _add_list(office)
    _add_invitations(office)
    _add_ends(office)
    _add_domains(office)
    _add_tokens(office)


def _show(office: Office, request: Request, scope: Scope, **shown: Any) -> Response:
    with office.store.read() as connection:
        context = {
            **_view(scope, connection, now_ms()),
            "roles": [
                role for role in Role if any(role in scope.grantable(site) for site in _places(scope, connection))
            ],
            "switches": list(SWITCHES),
            "scopes": list(TOKEN_SCOPES),
            "everywhere": EVERYWHERE,
        }
    return office.site.page(request, "accounts.html", "Accounts", {**_NOTHING, **context, **shown})


def _link_for(office: Office, request: Request, account: people.Account, token: str) -> dict[str, str]:
    settings = office.gate.access.sign_in
    base = settings.public_url if settings else str(request.base_url).rstrip("/")
    return {"link": f"{base}/welcome/{token}", "link_email": account.email}


def _invite(
    office: Office, request: Request, connection: Connection, account: people.Account, at_ms: int
) -> dict[str, str]:
    """Mail an invitation, or make a link to pass on where none is mailed; return what the page says of it."""
    mailer = office.gate.access.mailer
    if mailer is not None and links.mail_invitation(connection, mailer, account, at_ms):
        return {"mailed_to": account.email}
    token = tokens.make_one_time(connection, "invite", at_ms, account=account.id)
    return _link_for(office, request, account, token)


def _add_list(office: Office) -> None:
    store = office.store

    @office.app.get("/accounts", include_in_schema=False)
    def accounts(request: Request, scope: _Granter) -> Response:
        return _show(office, request, scope)

    @office.app.get("/v1/accounts")
    def accounts_json(scope: _Reader) -> dict[str, Any]:
        """Return the accounts at your sites, their roles there, and the tokens for programs."""
        with store.read() as connection:
            found = _view(scope, connection, now_ms())
        return {
            "accounts": [
                {"email": item.email, "name": item.name, "state": item.state, "roles": [_grant(one) for one in grants]}
                for item, grants, _ in found["accounts"]
            ],
            "domains": found["domains"],
            "tokens": [asdict(item) for item, _ in found["tokens"]],
        }


def _add_invitations(office: Office) -> None:
    store = office.store

    @office.app.post("/accounts/invite", include_in_schema=False)
    def invite(
        request: Request,
        scope: _Granter,
        email: Annotated[str, Form(max_length=300)],
        role: Annotated[Role, Form()],
        site: _Site,
        name: Annotated[str, Form(max_length=people.NAME_CHARS)] = "",
        switch: Annotated[list[str], Form(max_length=10)] = [],  # noqa: B006  # FastAPI copies it
        groups: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        if role not in scope.grantable(site):
            raise RefusedError(_NOT_YOURS)
        at_ms = now_ms()
        with store.write() as connection:
            audit = Audit(scope.actor, "", at_ms)
            account = people.find_account(connection, email=people.norm_email(email))
            if account is None or account.state == "ended":
                account = people.create_account(connection, email, name, audit)
            grant = Grant(site, role, tuple(switch), people.split_groups(groups))
            people.add_grant(connection, account.id, grant, audit)
            shown = _invite(office, request, connection, account, at_ms) if account.state == "invited" else {}
            audit.write(connection)
        return _show(office, request, scope, **shown)

    @office.app.post("/accounts/{account_id}/link", include_in_schema=False)
    def make_link(
        request: Request, scope: _Granter, account_id: int, telephone_lost: Annotated[bool, Form()] = False
    ) -> Response:
        at_ms = now_ms()
        with store.write() as connection:
            account = _whole(scope, connection, account_id, at_ms)
            kind: tokens.Kind = "invite" if account.state == "invited" else "reset"
            payload = {"two_step": "remove"} if telephone_lost else {}
            token = tokens.make_one_time(connection, kind, at_ms, account=account.id, payload=payload)
            audit = Audit(scope.actor, "", at_ms)
            audit.note("link_made", f"account:{account.id}", kind=kind, telephone_lost=telephone_lost)
            audit.write(connection)
        return _show(office, request, scope, **_link_for(office, request, account, token))


def _add_ends(office: Office) -> None:
    store = office.store

    @office.app.post("/accounts/{account_id}/end", include_in_schema=False)
    def end(scope: _Granter, account_id: int) -> Response:
        at_ms = now_ms()
        with store.write() as connection:
            account = _whole(scope, connection, account_id, at_ms)
            audit = Audit(scope.actor, "", at_ms)
            people.end_account(connection, account.id, audit)
            audit.write(connection)
        return RedirectResponse("/accounts", 303)

    @office.app.post("/accounts/grants/{grant_id}/remove", include_in_schema=False)
    def remove_grant(scope: _Granter, grant_id: int) -> Response:
        at_ms = now_ms()
        with store.write() as connection:
            found = next((item for item in people.list_grants(connection, at_ms) if item.id == grant_id), None)
            if found is None or found.role not in scope.grantable(found.site):
                raise RefusedError(_NOT_YOURS)
            audit = Audit(scope.actor, "", at_ms)
            people.remove_grant(connection, grant_id, audit)
            audit.write(connection)
        return RedirectResponse("/accounts", 303)


def _add_domains(office: Office) -> None:
    store = office.store

    @office.app.post("/accounts/domains", include_in_schema=False)
    def change_domain(
        scope: _Granter,
        site: _Site,
        domain: Annotated[str, Form(max_length=253)],
        remove: Annotated[bool, Form()] = False,
    ) -> Response:
        require_site(scope, Right.GRANT, site, "site")
        with store.write() as connection:
            audit = Audit(scope.actor, site, now_ms())
            (people.remove_domain if remove else people.add_domain)(connection, site, domain, audit)
            audit.write(connection)
        return RedirectResponse("/accounts", 303)


def _add_tokens(office: Office) -> None:
    store = office.store

    @office.app.post("/accounts/tokens", include_in_schema=False)
    def make_token(
        request: Request,
        scope: _Granter,
        name: Annotated[str, Form(min_length=1, max_length=63)],
        site: _Site,
        scopes: Annotated[list[str], Form(max_length=len(TOKEN_SCOPES))] = [],  # noqa: B006  # FastAPI copies it
    ) -> Response:
        require_site(scope, Right.SOURCES, site, "site")
        with store.write() as connection:
            audit = Audit(scope.actor, "" if site == EVERYWHERE else site, now_ms())
            place = None if site == EVERYWHERE else site
            token = tokens.make_api_token(connection, name.strip(), tuple(scopes), place, audit)
            audit.write(connection)
        return _show(office, request, scope, token=token)

    @office.app.post("/accounts/tokens/{number}/end", include_in_schema=False)
    def end_token(scope: _Granter, number: int) -> Response:
        with store.write() as connection:
            found = next((item for item in tokens.list_api_tokens(connection, now_ms()) if item.id == number), None)
            require_site(scope, Right.GRANT, (found.site or EVERYWHERE) if found else None, "token")
            audit = Audit(scope.actor, (found.site or "") if found else "", now_ms())
            tokens.end_api_token(connection, number, audit)
            audit.write(connection)
        return RedirectResponse("/accounts", 303)


def _view(scope: Scope, connection: Connection, at_ms: int) -> dict[str, Any]:
    """Return what the scope may see of accounts: those with a role at one of its sites, and that role only."""
    sites = scope.sites(Right.GRANT)
    grants: dict[int, list[people.GrantView]] = {}
    for item in people.list_grants(connection, at_ms):
        grants.setdefault(item.account, []).append(item)
    shown = []
    for account in people.list_accounts(connection):
        of_account = grants.get(account.id, [])
        mine = [item for item in of_account if item.site in sites]
        if mine or sites.everywhere:
            shown.append((account, mine, _is_whole(scope, of_account)))
    domains = people.list_domains(connection)
    names = _places(scope, connection)
    return {
        "accounts": shown,
        "places": names,
        "domains": {site: domains.get(site, []) for site in names if site != EVERYWHERE},
        "tokens": [
            (item, None if item.seen_ms is None else from_ms(item.seen_ms))
            for item in tokens.list_api_tokens(connection, at_ms)
            if (item.site or EVERYWHERE) in sites
        ],
    }


def _grantable(scope: Scope, connection: Connection) -> list[Role]:
    roles = frozenset[Role]().union(*(scope.grantable(place) for place in _places(scope, connection)))
    return [role for role in Role if role in roles]


def _places(scope: Scope, connection: Connection) -> list[str]:
    sites = scope.sites(Right.GRANT)
    names = list(connection.scalars(select(tables.site.c.id).where(sites.hold(tables.site.c.id)).order_by("id")))
    return [EVERYWHERE, *names] if sites.everywhere else names


def _is_whole(scope: Scope, grants: list[people.GrantView]) -> bool:
    # Whoever resets a password gets all that the account may do, so all of it must be theirs to give.
    return all(item.role in scope.grantable(item.site) for item in grants)


def _whole(scope: Scope, connection: Connection, number: int, at_ms: int) -> people.Account:
    account = people.find_account(connection, id=number)
    grants = people.list_grants(connection, at_ms, [number])
    sites = scope.sites(Right.GRANT)
    if account is None or account.state == "ended" or not (sites.everywhere or any(g.site in sites for g in grants)):
        raise Problem(404, "not-found", "No such account", "There is no such account here; reload the page.")
    if not _is_whole(scope, grants):
        raise RefusedError(_NOT_YOURS)
    return account


def _grant(item: people.GrantView) -> dict[str, Any]:
    return {"site": item.site, "role": item.role, "switches": item.switches, "groups": item.groups}
