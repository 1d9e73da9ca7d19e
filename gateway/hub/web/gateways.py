"""Gateways as the hub last heard of them, and what could not be used of what they sent."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select

from gateway.hub.fleet.chain import accept_journal, list_faults, list_new_journals
from gateway.hub.fleet.claim import hub_alarm
from gateway.hub.fleet.gateways import ALARM_SHOWN_MS, list_gateways
from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms
from gateway.hub.web import queries, suspicions
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office

_Reader = Annotated[Scope, need(Right.SEE_GATEWAYS)]
_Keeper = Annotated[Scope, need(Right.GATEWAYS)]
_Page = Annotated[int, Query(ge=0, le=10_000)]


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.get("/gateways", include_in_schema=False)
    def gateways(request: Request, scope: _Reader) -> Response:
        sites = scope.sites(Right.SEE_GATEWAYS)
        with store.read() as connection:
            context = {
                "gateways": list_gateways(connection, sites),
                # A process that only serves pages cannot know; it relies on what the other processes wrote.
                "broker_known": office.daemon.connected() is not False,
                "faults": list_faults(connection, sites),
                "journals": list_new_journals(connection, sites),
                "may_accept": scope.may(Right.GATEWAYS),
                "suspicions": suspicions.list_suspicions(sites, connection, now_ms()),
                "hub_alarm": hub_alarm(connection, now_ms() - ALARM_SHOWN_MS),
                "suspicion_days": suspicions.SUSPICION_DAYS,
                "now_ms": now_ms(),
            }
        return office.site.page(request, "gateways.html", "Gateways", context)

    @office.app.post("/gateways/accept", include_in_schema=False)
    def accept(scope: _Keeper, gateway: Annotated[int, Form()], epoch: Annotated[str, Form(max_length=63)]) -> Response:
        with store.read() as connection:
            site = connection.scalar(select(tables.gateway.c.site).where(tables.gateway.c.id == gateway))
        require_site(scope, Right.GATEWAYS, site, "gateway")
        accept_journal(store, gateway, epoch, scope.actor)
        return RedirectResponse("/gateways", 303)

    @office.app.get("/v1/gateways")
    def gateways_json(scope: _Reader) -> dict[str, Any]:
        """Return every gateway that has ever connected."""
        sites = scope.sites(Right.SEE_GATEWAYS)
        with store.read() as connection:
            faults = list_faults(connection, sites)
            return {
                "gateways": [asdict(row) for row in list_gateways(connection, sites)],
                "chain_faults": [{"gateway": name, "epoch": epoch, **asdict(fault)} for name, epoch, fault in faults],
                "new_journals": [asdict(item) for item in list_new_journals(connection, sites)],
                "suspicions": [asdict(item) for item in suspicions.list_suspicions(sites, connection, now_ms())],
            }

    @office.app.get("/quarantine", include_in_schema=False)
    def quarantine(request: Request, scope: _Reader, page: _Page = 0) -> Response:
        with store.read() as connection:
            rows, more = queries.list_quarantine(scope, connection, page)
        context = {
            "rows": rows,
            "older": f"/quarantine?page={page + 1}" if more else None,
            "newer": f"/quarantine?page={page - 1}" if page else None,
        }
        return office.site.page(request, "quarantine.html", "Quarantine", context)

    @office.app.get("/v1/quarantine")
    def quarantine_json(scope: _Reader, page: _Page = 0) -> dict[str, Any]:
        """Return the messages and events that could not be used, newest first."""
        with store.read() as connection:
            rows, more = queries.list_quarantine(scope, connection, page)
        return {"quarantine": [asdict(row) for row in rows], "more": more}
