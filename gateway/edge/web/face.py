"""Joins the gateway to its pages: what they show, what they may ask, and the thread that keeps them live."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gateway.config import WebSettings
from gateway.edge.teaching import Teaching, Watch
from gateway.edge.web.app import Requests, build_status_site, render_live, render_tap
from gateway.edge.web.kiosk import mount_kiosks, render_message
from gateway.edge.web.lane_api import Lanes, LaneSource, mount_lanes
from gateway.edge.web.teach import TeachPage, mount_teach, render_lesson
from gateway.points.actions import Show
from gateway.webkit.events import Broadcaster
from gateway.webkit.server import WebServer

if TYPE_CHECKING:
    from gateway.edge.app import Gateway

_REFRESH_SECONDS = 2.0
_SETTLE_SECONDS = 0.25


class WebFace:
    """The pages of one gateway."""

    def __init__(self, gateway: Gateway, settings: WebSettings) -> None:
        self._gateway = gateway
        self._pages = Broadcaster()
        kinds = {item.id: item.kind for item in gateway.settings.points}
        self._screens = {name: Broadcaster() for name, kind in kinds.items() if kind == "kiosk"}
        source = LaneSource(
            gateway.settings.id,
            gateway.journal.epoch,
            lambda: gateway.journal.oldest,
            gateway.journal.after,
            lambda: gateway.view().roster_age_seconds,
            lambda: gateway.clock.quality,
        )
        self._lanes = Lanes([name for name, kind in kinds.items() if kind == "lane"], source)
        requests = Requests(gateway.view, lambda: list(gateway.taps), gateway.identify, gateway.beats.overdue)
        self.site = build_status_site(requests, gateway.settings.id, self._pages)
        mount_lanes(self.site.app, self._lanes, settings.till_token_file)
        mount_kiosks(self.site, self._screens)
        self._teaching = Teaching(self._hook, gateway.wake)
        self._teach_pages = Broadcaster()
        # A kiosk's browser runs on this machine too and stands in front of everybody: no card numbers there.
        self.site.templates.env.globals["teaches"] = not self._screens
        if not self._screens:
            mount_teach(self.site, TeachPage(list(gateway.readers), self._teaching, self._teach_pages))
        self.server = WebServer(self.site.app, settings.host, settings.port, self._pages)
        self._stopping = False
        self._thread = threading.Thread(target=self._keep_live, name="pages", daemon=True)

    def start(self) -> None:
        self._gateway.on_tap.append(self._lanes.on_record)
        self._gateway.on_show.append(self._on_show)
        self.server.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._teaching.stop()
        self._gateway.wake()
        self._thread.join(5)
        self._lanes.close()
        self._teach_pages.close()
        for screen in self._screens.values():
            screen.close()
        self.server.stop()

    def _hook(self, watch: Watch | None) -> None:
        self._gateway.tapline.watch = watch

    def _on_show(self, show: Show) -> None:
        screen = self._screens.get(show.point)
        if screen is not None and screen.listeners:
            screen.publish(render_message(self.site, show))

    def _keep_live(self) -> None:
        """Render for the open pages, at most four times a second, and not at all when none is open."""
        newest = 0
        pause = threading.Event()
        while not self._stopping:
            self._gateway.wait_for_change(_REFRESH_SECONDS)
            if self._pages.listeners:
                self._pages.publish(render_live(self.site, self._gateway.view()))
                for tap in reversed([tap for tap in list(self._gateway.taps) if tap.seq > newest]):
                    self._pages.publish(render_tap(self.site, tap))
            if self._teach_pages.listeners:
                self._teach_pages.publish(render_lesson(self.site, self._teaching.lesson()))
            newest = max((tap.seq for tap in list(self._gateway.taps)), default=newest)
            pause.wait(_SETTLE_SECONDS)
