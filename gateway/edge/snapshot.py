"""Takes the GatewayView of a running gateway; reads everything, changes nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from gateway import __version__
from gateway.access.event import Event
from gateway.edge.health import GatewayView, ReaderRow, TapRow
from gateway.edge.relay import RelayStatus
from gateway.edge.startup import HUB_LINK, StartFaults
from gateway.points.door import Door
from gateway.points.kiosk import Kiosk
from gateway.readers.vital_signs import score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config import GatewaySettings, ReaderSettings
    from gateway.edge.absent import AbsentJournal
    from gateway.edge.clock import Clock
    from gateway.edge.relay import Relay
    from gateway.edge.roster_sync import RosterSync
    from gateway.edge.tapline import Seat, Tapline
    from gateway.journal.journal import Journal
    from gateway.readers.base import Reader
    from gateway.roster.store import RosterStore
    from gateway.service import Beats


class RunningGateway(Protocol):
    """The parts of a gateway that a snapshot reads."""

    @property
    def settings(self) -> GatewaySettings: ...
    @property
    def beats(self) -> Beats: ...
    @property
    def faults(self) -> StartFaults: ...
    @property
    def journal(self) -> Journal | AbsentJournal: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def roster(self) -> RosterStore: ...
    @property
    def roster_sync(self) -> RosterSync | None: ...
    @property
    def relay(self) -> Relay | None: ...
    @property
    def seats(self) -> Mapping[str, Seat]: ...
    @property
    def readers(self) -> Mapping[str, Reader]: ...
    @property
    def tapline(self) -> Tapline: ...
    @property
    def running_seconds(self) -> float: ...
    @property
    def output_fault(self) -> str | None: ...


def take_view(gateway: RunningGateway) -> GatewayView:
    """Take a snapshot; callable from any thread."""
    settings, stats, stamp = gateway.settings, gateway.journal.stats(), gateway.clock.stamp()
    relay = gateway.relay.status() if gateway.relay else None
    roster, sync = gateway.roster.current, gateway.roster_sync
    now = datetime.now(UTC)
    points = [(name, seat.point) for name, seat in gateway.seats.items()]
    kiosks = [seat.point for seat in gateway.seats.values() if isinstance(seat.point, Kiosk)]
    return GatewayView(
        gateway=settings.id,
        site=settings.site,
        software=__version__,
        boot=gateway.journal.boot,
        running_seconds=gateway.running_seconds,
        readers=tuple(_reader_row(gateway, item) for item in settings.readers),
        doors=tuple((name, str(point.state)) for name, point in points if isinstance(point, Door)),
        hub_configured=settings.hub is not None,
        link=relay.link if relay else "offline" if settings.hub else "off",
        link_detail=_link_detail(gateway, relay),
        hub=relay.hub if relay else "none",
        notice=relay.notice if relay else None,
        stopped=relay.stopped if relay else False,
        waiting=stats.waiting,
        oldest_seconds=stats.oldest_waiting_seconds,
        rtt_ms=relay.rtt_ms if relay else None,
        roster_version=roster.version if roster else None,
        roster_cards=roster.count if roster else 0,
        roster_age_seconds=max(0.0, (now - roster.created).total_seconds()) if roster else None,
        roster_fault=(sync.fault if sync else None) or gateway.roster.fault,
        journal_state=stats.state,
        journal_detail=stats.reason,
        journal_head=stats.head,
        journal_bytes=stats.bytes,
        sync_ms=stats.sync_ms_p50,
        disk_free_bytes=stats.disk_free_bytes,
        clock_quality=stamp.clock,
        clock_is_set=gateway.clock.is_set,
        clock_at=stamp.at,
        output_fault=gateway.output_fault,
        hanging=tuple(gateway.beats.overdue()),
        granted=gateway.tapline.stats.granted,
        denied=gateway.tapline.stats.denied,
        faults=gateway.faults.rows,
        signed_in=max((len(item.signed_in) for item in kiosks), default=None),
    )


def _link_detail(gateway: RunningGateway, relay: RelayStatus | None) -> str:
    if relay is None:
        return dict(gateway.faults.rows).get(HUB_LINK, "")
    return (relay.refused or relay.last_error or "") if relay.link != "online" else ""


def tap_row(seq: int, event: Event) -> TapRow:
    """Return a tap as the pages list it."""
    return TapRow(
        seq,
        event.at,
        event.point if isinstance(event.point, str) else "",
        event.reader if isinstance(event.reader, str) else "",
        event.card.tail if event.card else "",
        str(event.decision),
        str(event.reason),
    )


def _reader_row(gateway: RunningGateway, item: ReaderSettings) -> ReaderRow:
    vitals = gateway.readers[item.id].vitals
    health = score(vitals)
    return ReaderRow(
        name=item.id,
        driver=item.driver,
        port=item.port,
        point=item.point,
        state=vitals.state,
        detail=vitals.detail,
        firmware=vitals.firmware,
        silent_seconds=(time.monotonic_ns() - vitals.last_read_ns) / 1e9 if vitals.last_read_ns else None,
        presentations=vitals.presentations,
        errors=vitals.errors,
        resets=vitals.resets,
        score=health.points,
        advice=health.advice,
    )
