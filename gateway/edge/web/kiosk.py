"""The kiosk's screen: one message at a time, cleared after a few seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway.points.actions import Show
from gateway.webkit.events import Broadcaster, Live, sent
from gateway.webkit.problems import Problem
from gateway.webkit.site import Site


def mount_kiosks(site: Site, screens: Mapping[str, Broadcaster]) -> None:
    """Add the page and the stream of every kiosk."""

    def screen(point: str) -> Broadcaster:
        if point not in screens:
            raise Problem(404, "no-kiosk", "No such kiosk", f"There is no kiosk {point!r} on this gateway.")
        return screens[point]

    @site.app.get("/kiosk/{point}", include_in_schema=False)
    def page(request: Request, point: str) -> Response:
        screen(point)
        return site.page(request, "kiosk.html", point, {"live_url": f"/kiosk/{point}/events", "topic": "idle"})

    @site.app.get("/kiosk/{point}/events", response_class=EventSourceResponse, include_in_schema=False)
    async def events(point: str) -> AsyncIterator[ServerSentEvent]:
        async for event in screen(point).listen():
            yield sent(event)


def render_message(site: Site, show: Show) -> Live:
    """Render one message for the screen of a kiosk."""
    context: dict[str, Any] = {"topic": show.topic, **show.content}
    return Live("kiosk", site.fragment("kiosk.html", "message", context))
