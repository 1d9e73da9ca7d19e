"""The logbook: what happened, newest first, and live while the page is open."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway.hub.scope import Reach, Right, Scope
from gateway.hub.web import queries
from gateway.hub.web.gate import Elsewhere, Need, gate_of, need
from gateway.hub.web.office import Office
from gateway.webkit.events import sent
from gateway.webkit.problems import Problem

# Registers of the last week can still be corrected.
_RECENT = timedelta(days=7)
# How long a stream goes on after its reader signed out or lost the right.
_ASK_AGAIN_SECONDS = 30.0
_STREAM = Need(Right.LOGBOOK, is_use=False)
_Reader = Annotated[Scope, need(Right.LOGBOOK, Reach.OWN)]
_Stream = Annotated[Scope, need(Right.LOGBOOK, is_use=False)]


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


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store, live = office.store, office.live

    @office.app.get("/", include_in_schema=False)
    def logbook(request: Request, scope: _Reader, filters: _LogFilter) -> Response:
        with store.read() as connection:
            rows, more = queries.read_log(scope, connection, filters)
            points = queries.known_points(scope, connection)
            near, more_near = queries.count_near_registers(scope, connection, datetime.now(UTC) - _RECENT)
        is_newest = filters == queries.LogFilter()
        context = {
            "rows": rows,
            "filters": filters,
            "points": points,
            "near": near,
            "more_near": more_near,
            "live_url": "/events" if is_newest and scope.may(Right.LOGBOOK) else None,
            "older": _link(filters, filters.page + 1) if more else None,
            "newer": _link(filters, filters.page - 1) if filters.page else None,
        }
        return office.site.page(request, "logbook.html", "Logbook", context)

    @office.app.get("/events", response_class=EventSourceResponse, include_in_schema=False)
    async def events(request: Request, scope: _Stream) -> AsyncIterator[ServerSentEvent]:
        checked_at = time.monotonic()
        async for event in live.listen():
            if time.monotonic() - checked_at > _ASK_AGAIN_SECONDS:
                checked_at = time.monotonic()
                try:
                    scope = await run_in_threadpool(gate_of(request).admit, request, _STREAM)
                except (Problem, Elsewhere):
                    return
            if not event.site or event.site in scope.sites(Right.LOGBOOK):
                yield sent(event)

    @office.app.get("/v1/events")
    def events_json(scope: _Reader, filters: _LogFilter) -> dict[str, Any]:
        """Return a page of the logbook, newest first."""
        with store.read() as connection:
            rows, more = queries.read_log(scope, connection, filters)
        return {"events": [asdict(row) for row in rows], "more": more}


def _link(filters: queries.LogFilter, page: int) -> str:
    values = {name: value for name, value in asdict(replace(filters, page=page)).items() if value}
    return f"/?{urlencode(values)}" if values else "/"
