"""Syncs with the MIS: when each source was read, what is held, and what only a person can resolve."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, select

from gateway.errors import RefusedError
from gateway.hub.directory.people import find_people
from gateway.hub.directory.sites import list_sources
from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms
from gateway.hub.sync import conflicts, holds
from gateway.hub.sync.jobs import request_run
from gateway.hub.web import queries
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office

# More than this many people are let in or taken out only by somebody who types how many.
TYPED_FROM = 20
_CONFLICTS = 200
_Reader = Annotated[Scope, need(Right.SEE_SOURCES)]
_Approver = Annotated[Scope, need(Right.APPROVE)]
# What is held lets people in or takes them out by the hundred.
_Decider = Annotated[Scope, need(Right.APPROVE, fresh=True)]
_Tester = Annotated[Scope, need(Right.TEST_SOURCES)]


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.get("/syncs", include_in_schema=False)
    def syncs(request: Request, scope: _Reader) -> Response:
        with store.read() as connection:
            open_conflicts = _conflicts(scope, connection)
            refs = [item.person for item in open_conflicts if item.person is not None]
            known, _ = find_people(scope.sites(Right.PEOPLE), connection, refs=refs, limit=_CONFLICTS)
            context = {
                "known": {person.ref: person for person in known},
                "sources": queries.list_source_states(scope, connection),
                "runs": queries.list_runs(scope, connection),
                "holds": queries.list_holds(scope, connection),
                "conflicts": open_conflicts,
                "typed_from": TYPED_FROM,
            }
        return office.site.page(request, "syncs.html", "MIS syncs", context)

    @office.app.get("/v1/syncs")
    def syncs_json(scope: _Reader) -> dict[str, Any]:
        """Return the newest sync runs, what is held and what only a person can resolve."""
        with store.read() as connection:
            runs = [asdict(item) for item in queries.list_runs(scope, connection)]
            held = [asdict(item) for item in queries.list_holds(scope, connection)]
            for operation in (one for item in held for one in item["operations"]):
                # It names cards by their keys, which no answer shows; `what` says the same in words.
                del operation["operation"]
            return {
                "runs": runs,
                "holds": held,
                "conflicts": [asdict(item) for item in _conflicts(scope, connection)],
            }

    @office.app.post("/syncs/decide", include_in_schema=False)
    def decide(
        scope: _Decider,
        source: Annotated[int, Form()],
        decision: Annotated[Literal["approved", "refused", "approve-all"], Form()],
        operation: Annotated[list[str], Form(max_length=2000)] = [],  # noqa: B006  # FastAPI copies it
        typed: Annotated[str, Form(max_length=7)] = "",
    ) -> Response:
        with store.read() as connection:
            require_site(scope, Right.APPROVE, _site_of_source(connection, source), "source")
            held = next((item for item in queries.list_holds(scope, connection) if item.source_id == source), None)
        if decision == "approve-all":
            if held is not None and held.total > TYPED_FROM and typed.strip() != str(held.total):
                raise RefusedError(f"These are {held.total} changes; type that number to approve them.")
            holds.decide(store, source, scope.actor, "approved", None)
        else:
            holds.decide(store, source, scope.actor, decision, operation)
        return RedirectResponse("/syncs", 303)

    @office.app.post("/syncs/run", include_in_schema=False)
    def run_now(scope: _Tester, source: Annotated[int, Form()]) -> Response:
        with store.write() as connection:
            found = next((item for item in list_sources(connection) if item.id == source), None)
            require_site(scope, Right.TEST_SOURCES, found.site if found else None, "source")
            if found is not None:
                request_run(connection, scope.actor, found, now_ms())
        return RedirectResponse("/syncs", 303)

    @office.app.post("/conflicts/{conflict}/solve", include_in_schema=False)
    def solve(scope: _Approver, conflict: int, solution: Annotated[Literal["same", "other"], Form()]) -> Response:
        with store.read() as connection:
            source = connection.scalar(select(tables.conflict.c.source).where(tables.conflict.c.id == conflict))
            site = None if source is None else _site_of_source(connection, source)
            require_site(scope, Right.APPROVE, site, "conflict")
        conflicts.solve(store, conflict, solution, scope.actor)
        return RedirectResponse("/syncs", 303)


def _conflicts(scope: Scope, connection: Connection) -> list[conflicts.ConflictView]:
    return conflicts.list_open(connection, sites=scope.sites(Right.APPROVE), limit=_CONFLICTS)


def _site_of_source(connection: Connection, source: int) -> str | None:
    return connection.scalar(select(tables.source.c.site).where(tables.source.c.id == source))
