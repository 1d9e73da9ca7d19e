"""The gateway's web pages: status page, health, metrics, lanes, kiosk.

Every page is rendered from a GatewayView; pages reach the daemon only through Requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Form, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway.edge.health import GatewayView, TapRow, findings, is_ready, verdict
from gateway.edge.web.metrics import render_metrics
from gateway.webkit.events import Broadcaster, Live, sent
from gateway.webkit.problems import Problem
from gateway.webkit.site import Site

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that pages may make to the daemon; every call returns at once and may come from any thread."""

    view: Callable[[], GatewayView]
    taps: Callable[[], Sequence[TapRow]]
    identify: Callable[[str], bool]


def build_status_site(requests: Requests, gateway_id: str, pages: Broadcaster, hosts: Sequence[str] = ()) -> Site:
    """Build the application with everything but lanes and kiosk."""
    site = Site("Tapgate gateway", gateway_id, TEMPLATES, hosts=hosts)
    app = site.app

    @app.get("/", include_in_schema=False)
    def status(request: Request) -> Response:
        view = requests.view()
        context = {**_shown(view), "taps": requests.taps(), "live_url": "/events"}
        return site.page(request, "status.html", "Status", context)

    @app.get("/events", response_class=EventSourceResponse, include_in_schema=False)
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in pages.listen():
            yield sent(event)

    @app.post("/readers/identify", include_in_schema=False)
    def identify(reader: Annotated[str, Form()]) -> Response:
        if not requests.identify(reader):
            raise Problem(404, "no-reader", "No such reader", f"There is no reader {reader!r} on this gateway.")
        return RedirectResponse("/", 303)

    @app.get("/health/live")
    def live() -> Response:
        """Return whether the daemon's loops are running; 503 names those that are not responding."""
        hanging = list(requests.view().hanging)
        return JSONResponse({"live": not hanging, "hanging": hanging}, 503 if hanging else 200)

    @app.get("/health/ready")
    def ready() -> Response:
        """Return whether taps can be served and recorded; an absent hub means degraded, not unready."""
        view = requests.view()
        found = verdict(view)
        body = {"ready": is_ready(view), "level": found.level, "sentence": found.sentence, "remedy": found.remedy}
        return JSONResponse(body, 200 if is_ready(view) else 503)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return PlainTextResponse(render_metrics(requests.view()), media_type="text/plain; version=0.0.4")

    @app.get("/v1/status")
    def status_json() -> dict[str, Any]:
        """Return what the status page shows."""
        view = requests.view()
        found = [asdict(finding) for finding in findings(view)]
        return {"verdict": asdict(verdict(view)), "attention": found, **asdict(view)}

    return site


def _shown(view: GatewayView) -> dict[str, Any]:
    return {"view": view, "verdict": verdict(view), "attention": findings(view)}


def render_live(site: Site, view: GatewayView) -> Live:
    """Render the changing part of the status page."""
    return Live("status", site.fragment("status.html", "status", _shown(view)))


def render_tap(site: Site, tap: TapRow) -> Live:
    """Render one row of the last taps."""
    return Live("row-taps", site.fragment("status.html", "taprow", {"tap": tap}))
