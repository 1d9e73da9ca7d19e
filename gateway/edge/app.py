"""Builds the gateway daemon from all its parts.

Readers start first and the pages last, so that nothing delays the first decision.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from gateway import __version__
from gateway.access.event import Event
from gateway.access.people import KioskAction, Roster
from gateway.access.rules import Moment, Reason
from gateway.config import GatewaySettings, WebSettings
from gateway.edge.absent import AbsentJournal
from gateway.edge.build import make_buses, make_checkpoints, make_point, make_relay, restore_kiosks
from gateway.edge.buses import ReaderSignals
from gateway.edge.clock import Clock
from gateway.edge.copies import Copies
from gateway.edge.door_pins import DoorPins
from gateway.edge.health import GatewayView, TapRow, verdict
from gateway.edge.options import reader_options
from gateway.edge.panel.desk import Daemon, Desk
from gateway.edge.points_loop import PointsLoop
from gateway.edge.presence import SitePresence
from gateway.edge.refusals import Refusals
from gateway.edge.relay import Relay
from gateway.edge.reporter import Reporter
from gateway.edge.roster_age import RosterAge
from gateway.edge.roster_sync import RosterSync
from gateway.edge.snapshot import take_view, tap_row
from gateway.edge.startup import (
    HUB_LINK,
    SITE_KEY,
    StartFaults,
    costs_one_part,
    find_site_key,
    load_roster,
    make_readers,
    make_trust,
    note_old_doors,
    open_journal,
    write_guard,
)
from gateway.edge.tapline import Recorder, Seat, Tapline
from gateway.edge.teaching import Watch
from gateway.errors import FatalError, RetryError, TapgateError
from gateway.journal.journal import Journal
from gateway.link.topics import GatewayTopics, site_presence
from gateway.outputs.base import Strike, Switchboard
from gateway.points.actions import Show, Signal
from gateway.points.kiosk import Kiosk
from gateway.readers.base import Transports
from gateway.roster.store import RosterStore
from gateway.service import Beats, is_supervised

log = logging.getLogger(__name__)

_LAST_TAPS = 20
_LAST_RECORD_SECONDS = 2.0
_MEND_SECONDS = 10.0
_TELL_SECONDS = 5.0


class Gateway:
    """One gateway daemon; `start` and `stop` once each."""

    def __init__(
        self, settings: GatewaySettings, transports: Transports, strikes: Mapping[str, Strike] | None = None
    ) -> None:
        options = reader_options(settings)
        settings.file.finish(costs_one_part)
        self.settings = settings
        self.beats = Beats()
        self.faults = StartFaults()
        note_old_doors(settings, self.faults)
        self._started = time.monotonic()
        site_key = find_site_key(settings, self.faults)
        self.roster = RosterStore(settings.state_dir / "roster", make_trust(settings, site_key), settings.site)
        self.journal = open_journal(settings, self.faults)
        self.roster_age = RosterAge(self.journal.tinydb.table("roster"), self._best_time)
        if site_key is not None:
            load_roster(self.roster, self.roster_age.floor)
        self.clock = Clock(self._known_past())
        self.recorder = Recorder(settings.id, lambda: self.journal.boot, self.clock, self.journal.append)
        self._pins = DoorPins(settings.points)
        self.taps: deque[TapRow] = deque(maxlen=_LAST_TAPS)
        self.on_tap: list[Callable[[int, bytes, Event], None]] = []
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        self.seats = {item.id: Seat(make_point(item)) for item in settings.points}
        for seat in self.seats.values():
            if isinstance(seat.point, Kiosk):
                seat.point.actions = self._actions
                seat.point.new_id = lambda: secrets.token_hex(4)
        self._signals = ReaderSignals()
        if strikes is None:
            write_guard(settings, self.faults)
            strikes = self._pins.claim_strikes()
        board = Switchboard(strikes, self._signals.tell, self._show)
        self.tapline = Tapline(
            site_key,
            self.seats,
            {item.id: item.point for item in settings.readers},
            self._roster_in_force,
            self._moment,
            self.recorder,
            board,
            Copies(self.journal.tinydb.table("copies"), time.monotonic),
            self._on_change,
            no_roster=lambda: Reason.ROSTER_STALE if self.roster.was_put_back else Reason.ROSTER_MISSING,
        )
        self.points = PointsLoop(self.seats, self._pins.claim_inputs(), self.tapline, self.beats)
        self.readers = make_readers(settings, options, transports)
        buses = make_buses(settings.readers, self.readers, self.tapline.handle, self._note_reader, self.beats)
        self.buses = list(buses)
        self._signals.connect({item.name: bus for bus, group in buses.items() for item in group}, self.readers)
        self._checkpoints = make_checkpoints(settings, self.journal, self.clock, self.faults)
        self._refusals = Refusals(self.journal.stats, self.recorder, self.journal.unsaved)
        self._presence = SitePresence(
            self.seats,
            lambda: self.roster.trust,
            settings.site,
            settings.id,
            self.journal.after,
            lambda: self.journal.epoch,
            self._local_day,
        )
        self.relay: Relay | None = None
        self.roster_sync: RosterSync | None = None
        self.reporter: Reporter | None = None
        self._make_link()
        self._mend_at = time.monotonic() + _MEND_SECONDS
        self._tell_at = time.monotonic() + _TELL_SECONDS
        self.desk: Desk | None = None
        try:
            restore_kiosks(self.seats, self.journal, self.clock.now(), self.zone)
        except Exception:
            log.exception("the kiosks could not be restored: who is signed in is unknown")
        self.journal.subscribe(self._on_record)

    def start(self, *, pages: Literal["child", "elsewhere"] = "child") -> None:
        """Start the readers, then the link to the hub, then what the pages need.

        Args:
            pages: whether their process is a child of this one or is started by a service manager.
        """
        self.recorder.record("system", system={"what": "started", "software": __version__})
        self.points.start()
        for bus in self.buses:
            bus.start()
        self._keeper.start()
        self._start_link()
        if self.settings.web is not None:
            self._start_pages(self.settings.web, pages)

    def _start_link(self) -> None:
        if self.relay and self.roster_sync:
            if SITE_KEY not in self.faults:
                self.roster_sync.start()
            self.relay.start()

    def _start_pages(self, settings: WebSettings, pages: Literal["child", "elsewhere"]) -> None:
        try:
            desk = self._make_desk(settings)
            desk.start(child=pages == "child")
        except (Exception, SystemExit) as error:
            # Failing pages must not keep the doors from working, whatever the cause.
            if not isinstance(error, FatalError):
                log.exception("the pages failed")
            why = str(error) if isinstance(error, FatalError) else f"{type(error).__name__}: {error}"
            self.faults.note("pages", f"The pages are not served: {why}")
            self.recorder.record("system", system={"what": "web_failed", "why": why})
        else:
            self.desk = desk

    def stop(self) -> None:
        """Stop everything in reverse order; recorded events are durable before the journal closes."""
        if self.desk:
            self.desk.stop()
        for bus in self.buses:
            bus.stop()
        self.tapline.finish()
        self.points.stop()
        self._stopping.set()
        self._keeper.join(5)
        with contextlib.suppress(RetryError, TimeoutError):
            self.recorder.record("system", system={"what": "stopped"}).wait(_LAST_RECORD_SECONDS)
            if self._checkpoints:
                self._checkpoints.write().wait(_LAST_RECORD_SECONDS)
        if self.relay:
            self.relay.stop()
        self._pins.close()
        self.journal.close()

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

    def _local_day(self) -> date | None:
        return self.clock.now().astimezone(self.zone).date() if self.clock.is_set else None

    def _actions(self) -> tuple[KioskAction, ...]:
        current = self.roster.current
        return current.actions if current is not None else ()

    @property
    def zone(self) -> ZoneInfo:
        """Return the site's time zone: the roster's if it names one, else this gateway's setting."""
        roster = self.roster.current
        return roster.zone if roster is not None and roster.zone is not None else self.settings.timezone

    def _best_time(self) -> datetime:
        return self.clock.now()

    def _moment(self) -> Moment:
        local = self.clock.now().astimezone(self.zone)
        return Moment(local, self.clock.is_set, self.roster_age.seconds())

    def _roster_in_force(self) -> Roster | None:
        return self.roster.current

    def _known_past(self) -> datetime:
        """Return the latest time that is known to be past."""
        roster = self.roster.current
        recorded = datetime.fromtimestamp(self.journal.wall_ms / 1000, UTC)
        return max(recorded, roster.created) if roster else recorded

    @property
    def output_fault(self) -> str | None:
        """Return what does not work at doors, None when all does."""
        return self._pins.fault

    def _make_link(self) -> None:
        """Build the link to the hub; without a journal nothing can be sent, and no roster can be stored."""
        settings, journal = self.settings, self.journal
        if settings.hub is None or not isinstance(journal, Journal):
            return
        try:
            relay = make_relay(settings, settings.hub, journal, self.roster, self.clock, self._checkpoints)
        except Exception as error:
            if not isinstance(error, TapgateError):
                log.exception("the link to the hub cannot be built")
            why = str(error) if isinstance(error, TapgateError) else f"{type(error).__name__}: {error}"
            self.faults.note(HUB_LINK, f"{why} The gateway keeps trying; taps are stored here meanwhile.")
            return
        topics = GatewayTopics(settings.site, settings.id)
        self.reporter = Reporter(relay, topics.reported, time.monotonic)
        self.roster_sync = RosterSync(self.roster, relay, self.reporter, self._on_roster)
        self.relay = relay
        if self._presence.is_needed:
            relay.on(site_presence(settings.site), self._presence.take)
        self.faults.clear(HUB_LINK)

    def _mend(self) -> None:
        """Retry the parts that could not start, so that a repaired file needs no restart."""
        if SITE_KEY in self.faults and (site_key := find_site_key(self.settings, self.faults)) is not None:
            self.roster.trust = make_trust(self.settings, site_key)
            load_roster(self.roster, self.roster_age.floor)
            if self.roster.current:
                self.clock.raise_floor(self.roster.current.created)
            self.tapline.site_key = site_key
            if self.roster_sync:
                self.roster_sync.start()
            if self.relay:
                self.relay.set_trust(self.roster.trust)
                self.relay.announce()
            self.faults.clear(SITE_KEY)
            self._on_change()
        if HUB_LINK in self.faults:
            self._make_link()
            self._start_link()
        if isinstance(self.journal, AbsentJournal) and is_supervised():
            journal = open_journal(self.settings, self.faults)
            if isinstance(journal, Journal):
                journal.close()
                log.warning("the journal can be opened again; stopping for a restart by the service manager")
                os.kill(os.getpid(), signal.SIGTERM)

    def _make_desk(self, web: WebSettings) -> Desk:
        daemon = Daemon(
            epoch=lambda: self.journal.epoch,
            view=self.view,
            taps=lambda: tuple(self.taps),
            oldest=lambda: self.journal.oldest,
            after=self.journal.after,
            identify=self.identify,
            watch=self._set_watch,
            choose=self.tapline.choose,
        )
        return Desk(self.settings, web, daemon, self.recorder)

    def _set_watch(self, watch: Watch | None) -> None:
        self.tapline.watch = watch

    def _note_reader(self, name: str, state: str, detail: str) -> None:
        self.recorder.record("reader", reader=name, data={"state": state, "detail": detail})
        self._on_change()

    def _keep_house(self) -> None:
        """Check once a second what no event reports: the clock, an overdue roster, refused events."""
        beat = self.beats.register("housekeeping", 30.0)
        while not self._stopping.wait(1.0):
            beat()
            try:
                record = self.clock.due_record()
                if record is not None:
                    self.recorder.record("clock", data=record)
                if self.roster_sync:
                    self.roster_sync.tick()
                    if self.roster_sync.is_newest and self.relay and self.relay.status().hub == "ready":
                        self.roster_age.confirm()
                if self._checkpoints:
                    self._checkpoints.due()
                self._refusals.turn()
                self.tapline.brake.tick()
                self.tapline.copies.tick()
                self._presence.tick()
                if self.reporter and time.monotonic() >= self._tell_at:
                    self._tell_at = time.monotonic() + _TELL_SECONDS
                    self.reporter.verdict(verdict(self.view()))
                if time.monotonic() >= self._mend_at:
                    self._mend_at = time.monotonic() + _MEND_SECONDS
                    self._mend()
            except Exception:
                log.exception("a turn of the housekeeping failed")
        self.beats.forget("housekeeping")

    def _on_roster(self) -> None:
        if self.roster.current:
            self.clock.raise_floor(self.roster.current.created)
            self.roster_age.put_in_force(self.roster.current.version)
        if self.relay:
            self.relay.announce()
        self._on_change()

    def _on_record(self, seq: int, raw: bytes, event: Event) -> None:
        if event.kind == "tap":
            self.taps.appendleft(tap_row(seq, event))
        for listener in self.on_tap:
            listener(seq, raw, event)
        if self.desk:
            self.desk.on_record(seq, raw, event)

    def _on_change(self) -> None:
        self.points.poke()
        if self.desk:
            self.desk.on_change()

    def _show(self, show: Show) -> None:
        if self.desk:
            self.desk.on_show(show)
