"""The teach page: helps to find which form of a card number the MIS holds.

It shows whole card numbers, so it is served to this machine only, and only while a window is open there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway.edge.teaching import Lesson
from gateway.webkit.events import Broadcaster, Live, sent
from gateway.webkit.problems import Problem
from gateway.webkit.site import Site

# A proxy on this machine makes remote callers look local; these headers reveal it.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Teaches(Protocol):
    """Opens and closes the teaching window (see edge.teaching)."""

    def start(self, reader: str) -> None: ...
    def stop(self) -> None: ...
    def lesson(self) -> Lesson: ...


@dataclass(frozen=True, slots=True)
class TeachPage:
    """What the page needs: the readers to choose from, the window, its open pages."""

    readers: Sequence[str]
    teaching: Teaches
    pages: Broadcaster


def mount_teach(site: Site, page: TeachPage) -> None:
    """Add the page, its stream and its two buttons."""
    local = [Depends(_check_local)]

    @site.app.get("/teach", dependencies=local, include_in_schema=False)
    def show(request: Request) -> Response:
        context = {"lesson": page.teaching.lesson(), "readers": page.readers, "live_url": "/teach/events"}
        return site.page(request, "teach.html", "Teach", context)

    @site.app.get("/teach/events", dependencies=local, response_class=EventSourceResponse, include_in_schema=False)
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in page.pages.listen():
            yield sent(event)

    @site.app.post("/teach/start", dependencies=local, include_in_schema=False)
    def start(reader: Annotated[str, Form()]) -> Response:
        if reader not in page.readers:
            raise Problem(404, "no-reader", "No such reader", f"There is no reader {reader!r} on this gateway.")
        page.teaching.start(reader)
        return RedirectResponse("/teach", 303)

    @site.app.post("/teach/stop", dependencies=local, include_in_schema=False)
    def stop() -> Response:
        page.teaching.stop()
        return RedirectResponse("/teach", 303)


def render_lesson(site: Site, lesson: Lesson) -> Live:
    """Render the changing part of the page."""
    return Live("teach", site.fragment("teach.html", "lesson", {"lesson": lesson}))


def _check_local(request: Request) -> None:
    caller = request.client.host if request.client else ""
    name = request.url.hostname or ""
    forwarded = any(header in request.headers for header in _FORWARDED)
    if forwarded or not _is_loopback(caller) or not (name == "localhost" or _is_loopback(name)):
        detail = "This page shows card numbers; open it on the gateway itself, as localhost, or through an SSH tunnel."
        raise Problem(403, "this-machine-only", "This machine only", detail)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
