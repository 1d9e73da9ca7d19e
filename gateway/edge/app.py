"""Builds the gateway daemon: the only place that knows all its parts.

Readers start first and the web last, so that the first decision waits for nobody.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.access.event import Event, decode_event
from gateway.access.people import Roster
from gateway.config import GatewaySettings, PointSettings, read_site_key
from gateway.edge.buses import BusThread, ReaderSignals
from gateway.edge.checkpoints import Checkpoints, load_gateway_key
from gateway.edge.clock import Clock
from gateway.edge.health import GatewayView, TapRow, verdict
from gateway.edge.options import reader_options
from gateway.edge.points_loop import DoorWiring, PointsLoop
from gateway.edge.refusals import Refusals
from gateway.edge.relay import Relay
from gateway.edge.roster_sync import RosterSync
from gateway.edge.snapshot import take_view, tap_row
from gateway.edge.tapline import Point, Recorder, Seat, Tapline
from gateway.errors import FatalError, OutputFailed, RetryError
from gateway.journal.journal import Journal
from gateway.link.topics import GatewayTopics
from gateway.outputs.base import Strike, Switchboard
from gateway.outputs.gpio import GpioPins, load_gpio
from gateway.points.actions import Show, Signal
from gateway.points.door import Door
from gateway.points.kiosk import Kiosk
from gateway.points.lane import Lane
from gateway.readers.base import DRIVERS, Reader, Transports, make_reader
from gateway.roster.signing import Trust
from gateway.roster.store import RosterStore
from gateway.service import Beats

if TYPE_CHECKING:
    from gateway.edge.web.face import WebFace

log = logging.getLogger(__name__)

_LAST_TAPS = 20
_RESTORE_EVENTS = 20_000
_LAST_RECORD_SECONDS = 2.0


class Gateway:
    """One gateway daemon; `start` and `stop` once each."""

    def __init__(
        self, settings: GatewaySettings, transports: Transports, strikes: Mapping[str, Strike] | None = None
    ) -> None:
        options = reader_options(settings)
        site_key = read_site_key(settings.site_key_file)
        settings.file.finish()
        self.settings = settings
        self.beats = Beats()
        self._started = time.monotonic()
        self.roster = RosterStore(settings.state_dir / "roster", Trust(site_key, settings.roster_signer), settings.site)
        self.roster.load()
        self.journal = Journal.open(
            settings.state_dir / "journal",
            settings.id,
            quota_bytes=settings.journal_quota_mib << 20,
            segment_bytes=settings.journal_segment_kib << 10,
            keep_days=settings.journal_keep_days,
        )
        self.clock = Clock(self._known_past())
        self.recorder = Recorder(settings.id, self.journal.boot, self.clock, self.journal.append)
        self._pins: GpioPins | None = None
        self.output_fault: str | None = None
        self.taps: deque[TapRow] = deque(maxlen=_LAST_TAPS)
        self.on_tap: list[Callable[[int, bytes, Event], None]] = []
        self.on_show: list[Callable[[Show], None]] = []
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        self.seats = {item.id: Seat(_make_point(item)) for item in settings.points}
        self._signals = ReaderSignals()
        board = Switchboard(strikes if strikes is not None else self._claim_strikes(), self._signals.tell, self._show)
        self.tapline = Tapline(
            site_key,
            self.seats,
            {item.id: item.point for item in settings.readers},
            self._roster_in_force,
            lambda: self.clock.now().astimezone(settings.timezone),
            self.recorder,
            board,
            self._on_change,
        )
        self.points = PointsLoop(self.seats, self._claim_contacts(), self.tapline, self.beats)
        self.readers: dict[str, Reader] = {
            item.id: make_reader(item.driver, item.id, item.port, options[item.id], transports)
            for item in settings.readers
        }
        self.buses = self._make_buses()
        key = load_gateway_key(settings.state_dir / "gateway.key")
        self._checkpoints = Checkpoints(self.journal, self.clock, settings.id, key, time.monotonic)
        self._refusals = Refusals(self.journal.stats, self.recorder, lambda: self.clock.stamp().at)
        self.relay = self._make_relay()
        self.roster_sync = self._make_roster_sync()
        self.web: WebFace | None = None
        self._restore_kiosks()
        self.journal.subscribe(self._on_record)

    def start(self) -> None:
        """Start the readers, then the way to the hub, then the pages."""
        self.recorder.record("system", system={"what": "started", "software": __version__})
        self.points.start()
        for bus in self.buses:
            bus.start()
        self._keeper.start()
        if self.relay and self.roster_sync:
            self.roster_sync.start()
            self.relay.start()
        if self.settings.web is not None:
            # Imported here, after the readers run: FastAPI takes most of a second to import.
            from gateway.edge.web.face import WebFace  # noqa: PLC0415  # see above

            web = WebFace(self, self.settings.web)
            try:
                web.start()
            except FatalError as error:
                # A page that nobody can open is no reason to keep a door shut.
                log.error("the pages are not served: %s", error)  # noqa: TRY400  # the sentence says it all
                self.recorder.record("system", system={"what": "web_failed", "why": str(error)})
            else:
                self.web = web

    def stop(self) -> None:
        """Stop everything in the opposite order; what is recorded is durable before the journal closes."""
        if self.web:
            self.web.stop()
        for bus in self.buses:
            bus.stop()
        self.points.stop()
        self._stopping.set()
        self._keeper.join(5)
        with contextlib.suppress(RetryError, TimeoutError):
            self.recorder.record("system", system={"what": "stopped"}).wait(_LAST_RECORD_SECONDS)
            self._checkpoints.write().wait(_LAST_RECORD_SECONDS)
        if self.relay:
            self.relay.stop()
        if self._pins:
            self._pins.close()
        self.journal.close()

    def wait_for_change(self, limit_seconds: float) -> bool:
        """Wait until something that the pages show has changed."""
        changed = self._changed.wait(limit_seconds)
        self._changed.clear()
        return changed

    def wake(self) -> None:
        """Let whoever waits for a change look again."""
        self._changed.set()

    def identify(self, reader: str) -> bool:
        """Let a reader blink or beep; False when there is none of that name."""
        return reader in self.readers and self._signals.tell(reader, Signal.IDENTIFY)

    @property
    def running_seconds(self) -> float:
        return time.monotonic() - self._started

    def status_line(self) -> str:
        """Return the verdict as the service manager shows it."""
        return verdict(self.view()).sentence

    def view(self) -> GatewayView:
        """Take a snapshot of everything that pages and health checks show."""
        return take_view(self)

    def _roster_in_force(self) -> Roster | None:
        return self.roster.current

    def _known_past(self) -> datetime:
        """Return the latest time that is known to have been."""
        roster = self.roster.current
        recorded = datetime.fromtimestamp(self.journal.wall_ms / 1000, UTC)
        return max(recorded, roster.created) if roster else recorded

    def _claim_strikes(self) -> dict[str, Strike]:
        strikes: dict[str, Strike] = {}
        for item in self.settings.points:
            if item.strike_gpio is None:
                continue
            try:
                strikes[item.id] = self._gpio_pins().strike(item.strike_gpio, active_low=item.strike_active_low)
            except OutputFailed as error:
                self._note_output_fault(item.id, str(error))
        return strikes

    def _claim_contacts(self) -> dict[str, DoorWiring]:
        wirings: dict[str, DoorWiring] = {}
        for item in self.settings.points:
            wiring = DoorWiring()
            try:
                if item.contact_gpio is not None:
                    wiring.contact = self._gpio_pins().contact(item.contact_gpio, high_means=item.contact_open_high)
                if item.rex_gpio is not None:
                    wiring.rex = self._gpio_pins().contact(item.rex_gpio, high_means=False)
            except OutputFailed as error:
                self._note_output_fault(item.id, str(error))
            if wiring.contact or wiring.rex:
                wirings[item.id] = wiring
        return wirings

    def _gpio_pins(self) -> GpioPins:
        if self._pins is None:
            self._pins = GpioPins(load_gpio())
        return self._pins

    def _note_output_fault(self, point: str, why: str) -> None:
        self.output_fault = f"{point}: {why}"
        log.error("the outputs of %s do not work: %s", point, why)

    def _make_buses(self) -> list[BusThread]:
        shared: dict[str, list[Reader]] = {}
        for item in self.settings.readers:
            shared.setdefault(DRIVERS[item.driver].bus(item.port), []).append(self.readers[item.id])
        buses = [
            BusThread(name, readers, self.tapline.handle, self._note_reader, self.beats)
            for name, readers in shared.items()
        ]
        bus_of = {reader.name: bus for bus, readers in zip(buses, shared.values(), strict=True) for reader in readers}
        self._signals.connect(bus_of, self.readers)
        return buses

    def _make_relay(self) -> Relay | None:
        settings = self.settings
        if settings.hub is None:
            return None
        return Relay(
            self.journal,
            settings.hub,
            gateway_id=settings.id,
            site=settings.site,
            public_key=self._checkpoints.public_key,
            offline_after_seconds=settings.offline_after_seconds,
            trust=self.roster.trust,
            roster_version=lambda: self.roster.current.version if self.roster.current else None,
            now=lambda: self.clock.now() if self.clock.quality != "free" else None,
        )

    def _make_roster_sync(self) -> RosterSync | None:
        if self.relay is None:
            return None
        topics = GatewayTopics(self.settings.site, self.settings.id)
        return RosterSync(self.roster, self.relay, topics.reported, self._on_roster)

    def _note_reader(self, name: str, state: str, detail: str) -> None:
        self.recorder.record("reader", reader=name, data={"state": state, "detail": detail})
        self._on_change()

    def _keep_house(self) -> None:
        """Look once a second at what no event tells: the clock, a roster that does not arrive, events refused."""
        beat = self.beats.register("housekeeping", 30.0)
        while not self._stopping.wait(1.0):
            beat()
            try:
                record = self.clock.due_record()
                if record is not None:
                    self.recorder.record("clock", data=record)
                if self.roster_sync:
                    self.roster_sync.tick()
                self._checkpoints.due()
                self._refusals.turn()
            except Exception:
                log.exception("a turn of the housekeeping failed")
        self.beats.forget("housekeeping")

    def _on_roster(self) -> None:
        if self.roster.current:
            self.clock.raise_floor(self.roster.current.created)
        if self.relay:
            self.relay.announce()
        self._on_change()

    def _on_record(self, seq: int, raw: bytes, event: Event) -> None:
        if event.kind == "tap":
            self.taps.appendleft(tap_row(seq, event))
        for listener in self.on_tap:
            listener(seq, raw, event)
        self._changed.set()

    def _on_change(self) -> None:
        self.points.poke()
        self._changed.set()

    def _show(self, show: Show) -> None:
        for listener in self.on_show:
            listener(show)

    def _restore_kiosks(self) -> None:
        """Bring the kiosks back to who was signed in, from the movements that the journal still holds."""
        kiosks = {seat.point.name: seat.point for seat in self.seats.values() if isinstance(seat.point, Kiosk)}
        if not kiosks:
            return
        today = self.clock.now().astimezone(self.settings.timezone).date()
        for _seq, raw in self.journal.after(max(0, self.journal.head - _RESTORE_EVENTS), _RESTORE_EVENTS):
            event = decode_event(raw)
            if event.kind != "movement" or not isinstance(event.movement, dict) or not isinstance(event.point, str):
                continue
            if not isinstance(event.person, str):
                continue
            local = datetime.fromisoformat(event.at).astimezone(self.settings.timezone)
            if local.date() == today and event.point in kiosks:
                kiosks[event.point].move(event.person, event.movement["direction"])


def _make_point(item: PointSettings) -> Point:
    if item.kind == "door":
        return Door(item.id, item.unlock_seconds, item.held_open_seconds)
    return Lane(item.id) if item.kind == "lane" else Kiosk(item.id)
