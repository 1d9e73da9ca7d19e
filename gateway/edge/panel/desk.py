"""The daemon's answers to the pages, and what it pushes to them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.access.event import Event
from gateway.config import GatewaySettings, WebSettings
from gateway.edge.health import GatewayView, TapRow
from gateway.edge.panel import messages
from gateway.edge.panel.child import WebChild
from gateway.edge.panel.server import PanelServer, PanelSource
from gateway.edge.tapline import Recorder
from gateway.edge.teaching import Teaching, Watch
from gateway.points.actions import Show

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Daemon:
    """The parts of the daemon that the pages need; every call returns soon and may come from any thread."""

    epoch: Callable[[], str]
    view: Callable[[], GatewayView]
    taps: Callable[[], tuple[TapRow, ...]]
    oldest: Callable[[], int]
    after: Callable[[int, int], list[tuple[int, bytes]]]
    identify: Callable[[str], bool]
    watch: Callable[[Watch | None], None]
    choose: Callable[[str, str, str], bool]


class Desk:
    """Serves one socket for the pages' process.

    Args:
        recorder: records every action that a page requests.
    """

    def __init__(self, settings: GatewaySettings, web: WebSettings, daemon: Daemon, recorder: Recorder) -> None:
        self._settings, self._web, self._daemon, self._recorder = settings, web, daemon, recorder
        self._readers = [item.id for item in settings.readers]
        self.address: str | None = None
        self.fault: str | None = None
        self.teaching = Teaching(daemon.watch, lambda: self._push(messages.Changed()))
        source = PanelSource(
            welcome=self._welcome,
            look=self._look,
            after=daemon.after,
            identify=self._identify,
            teach=self._teach,
            lesson=self.teaching.lesson,
            choose=daemon.choose,
            serving=self._note_address,
        )
        self.server = PanelServer(socket_path(settings.state_dir, os.environ), source)
        self._child = WebChild(self.server.path)
        self._has_child = False

    def start(self, *, child: bool) -> None:
        """Listen; with `child` start the pages' process too.

        Raises:
            FatalError: the socket cannot be made.
        """
        self.server.start()
        if child:
            self._has_child = True
            self._child.start()

    def stop(self) -> None:
        self.teaching.stop()
        if self._has_child:
            self._child.stop()
        self.server.stop()

    def on_record(self, seq: int, raw: bytes, event: Event) -> None:
        """Push a tap that has become durable; never waits."""
        self._push(messages.Tapped(seq, raw) if event.kind == "tap" else messages.Changed())

    def on_show(self, show: Show) -> None:
        """Push a message for a screen; never waits."""
        self._push(messages.Shown(show))

    def on_change(self) -> None:
        """Make open pages refresh; never waits."""
        self._push(messages.Changed())

    def _push(self, fact: messages.Fact) -> None:
        self.server.push(fact)

    def _welcome(self) -> messages.Welcome:
        settings, certificate = self._settings, self._web.certificate
        return messages.Welcome(
            version=messages.VERSION,
            gateway=settings.id,
            site=settings.site,
            epoch=self._daemon.epoch(),
            host=self._web.host,
            port=self._web.port,
            points=tuple((item.id, item.kind) for item in settings.points),
            readers=tuple(self._readers),
            names=self._web.names,
            certificate=None if certificate is None else (str(certificate[0]), str(certificate[1])),
        )

    def _look(self, number: int) -> messages.Snapshot:
        daemon = self._daemon
        token = till_token(self._web.till_token_file)
        return messages.Snapshot(number, daemon.view(), daemon.taps(), max(0, daemon.oldest()), token)

    def _identify(self, reader: str, actor: str) -> bool:
        done = self._daemon.identify(reader)
        self._record("identify", reader, actor, done=done)
        return done

    def _teach(self, reader: str | None, actor: str) -> bool:
        # A kiosk's screen is public: no card numbers there, whoever asks.
        allowed = not any(item.kind == "kiosk" for item in self._settings.points)
        if reader is None:
            self.teaching.stop()
            return True
        done = allowed and reader in self._readers
        if done:
            self.teaching.start(reader)
        self._record("teach", reader, actor, done=done)
        return done

    def _record(self, action: str, reader: str, actor: str, *, done: bool) -> None:
        known = reader if reader in self._readers else None
        self._recorder.record(
            "system", system={"what": "panel", "action": action, "reader": known, "by": actor, "done": done}
        )

    def _note_address(self, address: str, fault: str | None) -> None:
        self.address, before, self.fault = (None if fault else address), self.fault, fault
        if fault is None:
            log.info("the pages are at %s", address)
        elif fault != before:
            # Failing pages must not keep the doors from working.
            log.error("the pages are not served: %s", fault)
            self._recorder.record("system", system={"what": "web_failed", "why": fault})


def socket_path(state_dir: Path, environment: Mapping[str, str]) -> Path:
    """Return the path of the socket: the unit's folder if it exists, else the state folder."""
    named = Path(environment.get("TAPGATE_PANEL", ""))
    return named if named.name and named.parent.is_dir() else state_dir / "panel.sock"


def till_token(path: Path | None) -> str | None:
    """Return the SHA-256 of the tills' token in hex, None where none is set, empty where its file cannot be read."""
    if path is None:
        return None
    try:
        token = path.read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(token).hexdigest() if token else ""
