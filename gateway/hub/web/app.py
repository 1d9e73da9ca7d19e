"""The hub's pages: logbook, gateways, people and cards, syncs, quarantine; each is also served as JSON under /v1.

There is no sign-in yet, so the pages are served to this machine only (see `check_host`); for access from elsewhere put
a proxy with sign-in in front. Pages make changes only through directory and sync, and every change is audited.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Body, Depends, FastAPI, Form, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway import __version__
from gateway.errors import RefusedError, StoreUnavailable
from gateway.hub.directory.cards import CARD_STATES, CardState, by_hand, claim_prelinked, set_card_state
from gateway.hub.directory.people import PersonView, find_people
from gateway.hub.directory.sites import list_sources
from gateway.hub.fleet.chain import accept_journal, list_faults, list_new_journals
from gateway.hub.fleet.claim import hub_alarm
from gateway.hub.fleet.gateways import ALARM_SHOWN_MS, list_gateways
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.sync import conflicts, holds
from gateway.hub.sync.jobs import request_run
from gateway.hub.web import queries, suspicions
from gateway.hub.web.metrics import render_metrics
from gateway.webkit.events import Broadcaster, sent
from gateway.webkit.problems import Problem
from gateway.webkit.site import NavigationLink, Site

TEMPLATES = Path(__file__).parent / "templates"
_NAVIGATION = (
    NavigationLink("/", "Logbook"),
    NavigationLink("/gateways", "Gateways"),
    NavigationLink("/people", "People and cards"),
    NavigationLink("/syncs", "MIS syncs"),
    NavigationLink("/quarantine", "Quarantine"),
)
_OFFICE = by_hand("office")
# Registers of the last week can still be corrected.
_RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the pages may know about the running hub.

    Attributes:
        hanging: names of loops that have stopped beating.
        connected: whether the parts that need the broker have it; None when none runs in this process.
        counts: what this process has committed since its start.
    """

    hanging: Callable[[], list[str]]
    connected: Callable[[], bool | None]
    counts: Callable[[], dict[str, int]]


def build_office(store: Store, daemon: Daemon, live: Broadcaster) -> Site:
    """Build the application."""
    site = Site("Tapgate hub", "Hub", TEMPLATES, _NAVIGATION)
    site.app.exception_handler(StoreUnavailable)(_on_unavailable)
    site.app.exception_handler(RefusedError)(_on_refused)
    _add_health(site.app, store, daemon)
    _add_logbook(site, store, live)
    _add_people(site, store)
    _add_rest(site, store, daemon)
    return site


def _log_filter(
    site: Annotated[str | None, Query(max_length=63)] = None,
    point: Annotated[str | None, Query(max_length=63)] = None,
    decision: Annotated[Literal["granted", "denied", ""] | None, Query()] = None,
    kind: Annotated[str | None, Query(max_length=15)] = None,
    person: Annotated[str | None, Query(max_length=100)] = None,
    day: Annotated[str | None, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = None,
    time: Annotated[Literal["unsure", "register", ""] | None, Query()] = None,
    page: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> queries.LogFilter:
    try:
        parsed_day = date.fromisoformat(day) if day else None
    except ValueError:
        raise Problem(422, "invalid", "Not a day", "Write the day as 2026-11-22.") from None
    return queries.LogFilter(
        site or None,
        point or None,
        decision or None,
        kind or None,
        (person or "").strip() or None,
        parsed_day,
        time or None,
        page,
    )


_LogFilter = Annotated[queries.LogFilter, Depends(_log_filter)]
_Page = Annotated[int, Query(ge=0, le=10_000)]


def _add_logbook(site: Site, store: Store, live: Broadcaster) -> None:
    @site.app.get("/", include_in_schema=False)
    def logbook(request: Request, filters: _LogFilter) -> Response:
        with store.read() as connection:
            rows, more = queries.read_log(connection, filters)
            points = queries.known_points(connection)
            near, more_near = queries.count_near_registers(connection, datetime.now(UTC) - _RECENT)
        newest = filters == queries.LogFilter()
        context = {
            "rows": rows,
            "filters": filters,
            "points": points,
            "near": near,
            "more_near": more_near,
            "live_url": "/events" if newest else None,
            "older": _link("/", filters, filters.page + 1) if more else None,
            "newer": _link("/", filters, filters.page - 1) if filters.page else None,
        }
        return site.page(request, "logbook.html", "Logbook", context)

    @site.app.get("/events", response_class=EventSourceResponse, include_in_schema=False)
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in live.listen():
            yield sent(event)

    @site.app.get("/v1/events")
    def events_json(filters: _LogFilter) -> dict[str, Any]:
        """Return a page of the logbook, newest first."""
        with store.read() as connection:
            rows, more = queries.read_log(connection, filters)
        return {"events": [asdict(row) for row in rows], "more": more}


def _link(path: str, filters: queries.LogFilter, page: int) -> str:
    values = {name: value for name, value in asdict(replace(filters, page=page)).items() if value}
    return f"{path}?{urlencode(values)}" if values else path


def _add_people(site: Site, store: Store) -> None:
    @site.app.get("/people", include_in_schema=False)
    def people(request: Request, text: Annotated[str, Query(max_length=100)] = "", page: _Page = 0) -> Response:
        found, total = _find(store, text, page)
        rows = queries.PAGE_ROWS
        query = {"text": text} if text else {}
        context = {
            "people": found,
            "total": total,
            "text": text,
            "states": CARD_STATES,
            "older": f"/people?{urlencode({**query, 'page': page + 1})}" if (page + 1) * rows < total else None,
            "newer": f"/people?{urlencode({**query, 'page': page - 1})}" if page else None,
        }
        return site.page(request, "people.html", "People and cards", context)

    @site.app.get("/v1/people")
    def people_json(text: Annotated[str, Query(max_length=100)] = "", page: _Page = 0) -> dict[str, Any]:
        """Find people by name, id or reference; cards by their tail only."""
        found, total = _find(store, text, page)
        return {"people": [asdict(person) for person in found], "total": total}

    @site.app.post("/cards/{card_id}/state", include_in_schema=False)
    def card_state_form(
        card_id: int, state: Annotated[CardState, Form()], back: Annotated[str, Form()] = ""
    ) -> Response:
        _set_state(store, card_id, state)
        return RedirectResponse(f"/people?{urlencode({'text': back})}" if back else "/people", 303)

    @site.app.post("/v1/cards/{card_id}/state")
    def card_state(card_id: int, state: Annotated[CardState, Body(embed=True)]) -> dict[str, Any]:
        """Set the state of a card; gateways get a new roster at once."""
        _set_state(store, card_id, state)
        return {"card": card_id, "state": state}

    @site.app.post("/people/claim", include_in_schema=False)
    def claim_form(
        site: Annotated[str, Form(max_length=63)], person_key: Annotated[str, Form(max_length=100)]
    ) -> Response:
        _claim(store, site, person_key)
        return RedirectResponse(f"/people?{urlencode({'text': person_key})}", 303)

    @site.app.post("/v1/claims")
    def claim(
        site: Annotated[str, Body(max_length=63)], person_key: Annotated[str, Body(max_length=100)]
    ) -> dict[str, Any]:
        """Activate the cards that wait for a student id; an unknown id and one without such a card answer alike."""
        return {"claimed": _claim(store, site, person_key)}


def _claim(store: Store, site: str, person_key: str) -> bool:
    with store.write() as connection:
        audit = Audit(_OFFICE, site, now_ms())
        claimed = claim_prelinked(connection, site, person_key.strip(), audit)
        audit.write(connection)
    return claimed


def _find(store: Store, text: str, page: int) -> tuple[list[PersonView], int]:
    rows = queries.PAGE_ROWS
    with store.read() as connection:
        return find_people(connection, text=text, offset=page * rows, limit=rows)


def _set_state(store: Store, card_id: int, state: CardState) -> None:
    with store.write() as connection:
        owner = connection.execute(tables.card.select().where(tables.card.c.id == card_id)).one_or_none()
        audit = Audit(_OFFICE, owner.site if owner else "", now_ms())
        set_card_state(connection, card_id, state, audit)
        audit.write(connection)


def _add_syncs(site: Site, store: Store) -> None:
    @site.app.get("/syncs", include_in_schema=False)
    def syncs(request: Request) -> Response:
        with store.read() as connection:
            context = {
                "sources": queries.list_source_states(connection),
                "runs": queries.list_runs(connection),
                "holds": queries.list_holds(connection),
                "conflicts": conflicts.list_open(connection, limit=200),
            }
        return site.page(request, "syncs.html", "MIS syncs", context)

    @site.app.get("/v1/syncs")
    def syncs_json() -> dict[str, Any]:
        """Return the newest sync runs, what is held and what only a person can resolve."""
        with store.read() as connection:
            runs = [asdict(item) for item in queries.list_runs(connection)]
            held = [asdict(item) for item in queries.list_holds(connection)]
            for operation in (one for item in held for one in item["operations"]):
                # It names cards by their keys, which no answer shows; `what` says the same in words.
                del operation["operation"]
            return {
                "runs": runs,
                "holds": held,
                "conflicts": [asdict(item) for item in conflicts.list_open(connection, limit=200)],
            }

    @site.app.post("/syncs/decide", include_in_schema=False)
    def decide(
        source: Annotated[int, Form()],
        decision: Annotated[Literal["approved", "refused", "approve-all"], Form()],
        operation: Annotated[list[str], Form(max_length=2000)] = [],  # noqa: B006  # FastAPI copies it
    ) -> Response:
        if decision == "approve-all":
            holds.decide(store, source, _OFFICE, "approved", None)
        else:
            holds.decide(store, source, _OFFICE, decision, operation)
        return RedirectResponse("/syncs", 303)

    @site.app.post("/syncs/run", include_in_schema=False)
    def run_now(source: Annotated[int, Form()]) -> Response:
        with store.write() as connection:
            found = next((item for item in list_sources(connection) if item.id == source), None)
            if found is None:
                raise RefusedError("There is no such source; reload the page.")
            request_run(connection, _OFFICE, found, now_ms())
        return RedirectResponse("/syncs", 303)

    @site.app.post("/conflicts/{conflict}/solve", include_in_schema=False)
    def solve(conflict: int, solution: Annotated[Literal["same", "other"], Form()]) -> Response:
        conflicts.solve(store, conflict, solution, _OFFICE)
        return RedirectResponse("/syncs", 303)


def _add_rest(site: Site, store: Store, daemon: Daemon) -> None:
    @site.app.get("/gateways", include_in_schema=False)
    def gateways(request: Request) -> Response:
        with store.read() as connection:
            context = {
                "gateways": list_gateways(connection),
                # A process that only serves pages cannot know; it relies on what the other processes wrote.
                "broker_known": daemon.connected() is not False,
                "faults": list_faults(connection),
                "journals": list_new_journals(connection),
                "suspicions": suspicions.list_suspicions(connection, now_ms()),
                "hub_alarm": hub_alarm(connection, now_ms() - ALARM_SHOWN_MS),
                "suspicion_days": suspicions.SUSPICION_DAYS,
                "now_ms": now_ms(),
            }
        return site.page(request, "gateways.html", "Gateways", context)

    @site.app.post("/gateways/accept", include_in_schema=False)
    def accept(gateway: Annotated[int, Form()], epoch: Annotated[str, Form(max_length=63)]) -> Response:
        accept_journal(store, gateway, epoch, _OFFICE)
        return RedirectResponse("/gateways", 303)

    @site.app.get("/v1/gateways")
    def gateways_json() -> dict[str, Any]:
        """Return every gateway that has ever connected."""
        with store.read() as connection:
            return {
                "gateways": [asdict(row) for row in list_gateways(connection)],
                "chain_faults": [
                    {"gateway": name, "epoch": epoch, **asdict(fault)} for name, epoch, fault in list_faults(connection)
                ],
                "new_journals": [asdict(item) for item in list_new_journals(connection)],
                "suspicions": [asdict(item) for item in suspicions.list_suspicions(connection, now_ms())],
            }

    _add_syncs(site, store)

    @site.app.get("/quarantine", include_in_schema=False)
    def quarantine(request: Request, page: _Page = 0) -> Response:
        with store.read() as connection:
            rows, more = queries.list_quarantine(connection, page)
        context = {
            "rows": rows,
            "older": f"/quarantine?page={page + 1}" if more else None,
            "newer": f"/quarantine?page={page - 1}" if page else None,
        }
        return site.page(request, "quarantine.html", "Quarantine", context)

    @site.app.get("/v1/quarantine")
    def quarantine_json(page: _Page = 0) -> dict[str, Any]:
        """Return the messages and events that could not be used, newest first."""
        with store.read() as connection:
            rows, more = queries.list_quarantine(connection, page)
        return {"quarantine": [asdict(row) for row in rows], "more": more}


def _add_health(app: FastAPI, store: Store, daemon: Daemon) -> None:
    @app.get("/v1/info")
    def info() -> dict[str, Any]:
        """Return name and version of the hub."""
        return {"service": "tapgate-hub", "software": __version__, "committed": daemon.counts()}

    @app.get("/health/live")
    def live() -> Response:
        """Return whether the daemon's loops are running; 503 names those that are not responding."""
        hanging = daemon.hanging()
        return JSONResponse({"live": not hanging, "hanging": hanging}, 503 if hanging else 200)

    @app.get("/health/ready")
    def ready() -> Response:
        """Return whether events can be committed: the database answers and the broker is connected."""
        broker = daemon.connected()
        try:
            store.ping()
            database = True
        except StoreUnavailable:
            database = False
        body = {"ready": database and broker is not False, "database": database, "broker": broker}
        return JSONResponse(body, 200 if body["ready"] else 503)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        with store.read() as connection:
            text = render_metrics(connection, daemon.counts())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def _on_unavailable(request: Request, error: Exception) -> Response:
    del request
    return JSONResponse(
        Problem(503, "store-away", "The database does not answer", str(error)).body("/"),
        503,
        {"Retry-After": "5"},
        "application/problem+json",
    )


async def _on_refused(request: Request, error: Exception) -> Response:
    body = Problem(409, "refused", "Not possible", str(error)).body(request.url.path)
    return JSONResponse(body, 409, media_type="application/problem+json")
