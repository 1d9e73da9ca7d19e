"""The hub's pages; each is also served as JSON under /v1.

One file a part of them. Every address declares the right it needs (see gate.py), and pages make changes only through
the rooms below, audited under the name of whoever made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from gateway.errors import RefusedError, StoreUnavailable
from gateway.hub.scope import Reach, Right, Scope
from gateway.hub.store.engine import Store
from gateway.hub.web import (
    accounts,
    agent,
    attendance,
    audit,
    gateways,
    health,
    issuers,
    logbook,
    mine,
    movements,
    on_site,
    people,
    person,
    run,
    setup,
    sign_in,
    source,
    syncs,
    unknown_cards,
)
from gateway.hub.web.gate import Access, Elsewhere, Gate, check_declared, go_elsewhere
from gateway.hub.web.office import Daemon, Office
from gateway.webkit.events import Broadcaster
from gateway.webkit.problems import Problem, wants_page
from gateway.webkit.site import NavigationLink, Site

TEMPLATES = Path(__file__).parent / "templates"
_NAVIGATION = (
    (NavigationLink("/", "Logbook"), Right.LOGBOOK, Reach.OWN),
    (NavigationLink("/on-site", "On site"), Right.EMERGENCY, Reach.ALL),
    (NavigationLink("/attendance", "Register"), Right.SEE_MARKS, Reach.OWN),
    (NavigationLink("/gateways", "Gateways"), Right.SEE_GATEWAYS, Reach.ALL),
    (NavigationLink("/people", "People and cards"), Right.PEOPLE, Reach.OWN),
    (NavigationLink("/cards/unknown", "Unknown cards"), Right.CARDS, Reach.ALL),
    (NavigationLink("/syncs", "MIS syncs"), Right.SEE_SOURCES, Reach.ALL),
    (NavigationLink("/quarantine", "Quarantine"), Right.SEE_GATEWAYS, Reach.ALL),
    (NavigationLink("/accounts", "Accounts"), Right.GRANT, Reach.ALL),
    (NavigationLink("/audit", "Audit"), Right.AUDIT, Reach.ALL),
)
_PARTS = (
    health,
    logbook,
    on_site,
    attendance,
    people,
    person,
    movements,
    unknown_cards,
    syncs,
    source,
    run,
    setup,
    gateways,
    sign_in,
    issuers,
    mine,
    accounts,
    agent,
    audit,
)


def build_office(store: Store, daemon: Daemon, live: Broadcaster, access: Access = Access()) -> Site:  # noqa: B008  # a frozen value
    """Build the application."""
    site = Site("Tapgate hub", "Hub", TEMPLATES, hosts=access.hosts)
    gate = Gate(store, access)
    site.app.state.gate = gate
    site.personal = lambda request: _personal(gate, request)
    site.app.exception_handler(StoreUnavailable)(_on_unavailable)
    site.app.exception_handler(Elsewhere)(go_elsewhere)

    async def on_refused(request: Request, error: Exception) -> Response:
        problem = Problem(409, "refused", "Not possible", str(error))
        return await site.show_problem(request, problem)

    site.app.exception_handler(RefusedError)(on_refused)
    office = Office(site, store, gate, daemon, live)
    for part in _PARTS:
        part.add_pages(office)
    check_declared(site.app)
    return site


def _personal(gate: Gate, request: Request) -> Mapping[str, Any]:
    scope: Scope | None = getattr(request.state, "scope", None)
    links = [link for link, right, least in _NAVIGATION if scope is not None and scope.may(right, least)]
    return {**gate.personal(request), "navigation": links}


async def _on_unavailable(request: Request, error: Exception) -> Response:
    title = "The database does not answer"
    body = Problem(503, "store-away", title, str(error)).body(request.url.path)
    if wants_page(request):
        return Response(f"{title}. {error} Try again in a moment.\n", 503, {"Retry-After": "5"}, "text/plain")
    return JSONResponse(body, 503, {"Retry-After": "5"}, "application/problem+json")
