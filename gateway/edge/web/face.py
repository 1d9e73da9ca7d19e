"""Connects the panel to the pages: their data, their requests, and the thread that keeps them live.

Runs in the pages' own process and keeps no state except the sessions of tills; all data comes from the daemon over the
panel.
"""

from __future__ import annotations

import threading
from pathlib import Path

from fastapi import Request, Response

from gateway.access.event import decode_event
from gateway.edge.panel import messages
from gateway.edge.panel.client import Panel, PanelDown
from gateway.edge.web.app import Requests, build_status_site, render_live, render_tap
from gateway.edge.web.kiosk import mount_kiosks, render_message
from gateway.edge.web.lane_api import Lanes, LaneSource, mount_lanes
from gateway.edge.web.teach import TeachPage, mount_teach, render_lesson
from gateway.errors import FatalError
from gateway.webkit.events import Broadcaster
from gateway.webkit.problems import Problem
from gateway.webkit.server import WebServer

_REFRESH_SECONDS = 2.0
_SETTLE_SECONDS = 0.25
ACTOR = "page"


class WebFace:
    """The pages of one gateway; the panel must have been started."""

    def __init__(self, panel: Panel, welcome: messages.Welcome) -> None:
        self._panel, self._welcome = panel, welcome
        self.pages = Broadcaster()
        self.screens = {name: Broadcaster() for name, kind in welcome.points if kind == "kiosk"}
        self._teach_pages = Broadcaster()
        self._changed = threading.Event()
        self._stopping = False
        source = LaneSource(
            welcome.gateway,
            welcome.epoch,
            lambda: panel.look().oldest,
            panel.after,
            lambda: panel.look().view.roster_age_seconds,
            lambda: panel.look().view.clock_quality,
        )
        self._lanes = Lanes([name for name, kind in welcome.points if kind == "lane"], source)
        requests = Requests(
            lambda: panel.look().view,
            lambda: panel.look().taps,
            lambda reader: panel.identify(reader, ACTOR),
        )
        self.site = build_status_site(requests, welcome.gateway, self.pages, welcome.names)
        self.site.app.exception_handler(PanelDown)(self._on_down)
        mount_lanes(self.site.app, self._lanes, lambda: panel.look().till_token)
        mount_kiosks(self.site, self.screens, panel.choose)
        # A kiosk's browser runs on this machine too, and its screen is public: no card numbers there.
        self.site.templates.env.globals["teaches"] = not self.screens
        if not self.screens:
            mount_teach(self.site, TeachPage(welcome.readers, _RemoteTeaching(panel), self._teach_pages))
        files = None if welcome.certificate is None else (Path(welcome.certificate[0]), Path(welcome.certificate[1]))
        self.server = WebServer(self.site.app, welcome.host, welcome.port, self.pages, certificate=files)
        self._thread = threading.Thread(target=self._keep_live, name="pages", daemon=True)
        panel.on_fact = self._on_fact

    def start(self) -> None:
        """Listen, and report the address to the daemon.

        Raises:
            FatalError: the port cannot be bound; the daemon knows why.
            PanelDown: the daemon does not answer.
        """
        try:
            self.server.start()
        except FatalError as error:
            self._panel.report_serving(self.server.address, str(error))
            raise
        self._panel.report_serving(self.server.address)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._changed.set()
        self._thread.join(5)
        self._lanes.close()
        self._teach_pages.close()
        for screen in self.screens.values():
            screen.close()
        self.server.stop()

    def _on_fact(self, fact: messages.Fact) -> None:
        match fact:
            case messages.Tapped():
                self._lanes.on_record(fact.seq, fact.raw, decode_event(fact.raw))
            case messages.Shown():
                screen = self.screens.get(fact.show.point)
                if screen is not None and screen.listeners:
                    screen.publish(render_message(self.site, fact.show))
            case _:
                pass
        self._changed.set()

    async def _on_down(self, request: Request, error: Exception) -> Response:
        detail = f"{error} Doors and lanes may be down; check `systemctl status tapgate`."
        problem = Problem(503, "daemon-away", "The gateway daemon does not answer", detail, retry_after=5)
        return await self.site.show_problem(request, problem)

    def _keep_live(self) -> None:
        """Render for the open pages at most four times a second; do nothing when none is open."""
        newest = 0
        pause = threading.Event()
        while not self._stopping:
            self._changed.wait(_REFRESH_SECONDS)
            self._changed.clear()
            if not self.pages.listeners and not self._teach_pages.listeners:
                continue
            try:
                newest = self._show_changes(newest)
            except PanelDown:
                # Open pages receive no more beats and show that they are out of date.
                continue
            pause.wait(_SETTLE_SECONDS)

    def _show_changes(self, newest: int) -> int:
        snapshot = self._panel.look()
        if self.pages.listeners:
            self.pages.publish(render_live(self.site, snapshot.view))
            for tap in reversed([tap for tap in snapshot.taps if tap.seq > newest]):
                self.pages.publish(render_tap(self.site, tap))
        if self._teach_pages.listeners:
            self._teach_pages.publish(render_lesson(self.site, self._panel.lesson()))
        return max((tap.seq for tap in snapshot.taps), default=newest)


class _RemoteTeaching:
    """Teaching as the page sees it; the daemon owns the window."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.lesson = panel.lesson

    def start(self, reader: str) -> None:
        self._panel.teach(reader, ACTOR)

    def stop(self) -> None:
        self._panel.teach(None, ACTOR)
