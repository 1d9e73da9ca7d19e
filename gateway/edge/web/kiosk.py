"""The kiosk's screen: one message at a time, cleared after a few seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

from fastapi import Form, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway.points.actions import Show
from gateway.webkit.events import Broadcaster, Live, sent
from gateway.webkit.problems import Problem
from gateway.webkit.site import Site


def mount_kiosks(site: Site, screens: Mapping[str, Broadcaster], choose: Callable[[str, str, str], bool]) -> None:
    """Add the page and the stream of every kiosk, and what a person may choose there.

    Args:
        choose: takes point, movement on the screen and option; returns whether that was still possible.
    """

    def screen(point: str) -> Broadcaster:
        if point not in screens:
            raise Problem(404, "no-kiosk", "No such kiosk", f"There is no kiosk {point!r} on this gateway.")
        return screens[point]

    @site.app.get("/kiosk/{point}", include_in_schema=False)
    def page(request: Request, point: str) -> Response:
        screen(point)
        return site.page(
            request, "kiosk.html", point, {"live_url": f"/kiosk/{point}/events", "topic": "idle", "point": point}
        )

    @site.app.get("/kiosk/{point}/events", response_class=EventSourceResponse, include_in_schema=False)
    async def events(point: str) -> AsyncIterator[ServerSentEvent]:
        async for event in screen(point).listen():
            yield sent(event)

    @site.app.post("/kiosk/{point}/choose", include_in_schema=False)
    def choose_now(
        point: str, shown: Annotated[str, Form(max_length=63)], option: Annotated[str, Form(max_length=63)]
    ) -> Response:
        screen(point)
        # The page stays as it is: what follows comes over its stream, also when the screen had moved on.
        choose(point, shown, option)
        return Response(status_code=204)


def render_message(site: Site, show: Show) -> Live:
    """Render one message for the screen of a kiosk."""
    context: dict[str, Any] = {"topic": show.topic, "point": show.point, **show.content}
    return Live("kiosk", site.fragment("kiosk.html", "message", context))
