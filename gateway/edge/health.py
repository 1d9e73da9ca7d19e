"""The state of the gateway as one value for pages, health checks and doctor, and the verdict on it.

The verdict names the worst finding and what to do about it, in the order of _CHECKS; `findings` returns all of them.
Only what is proven counts as good: no reader, an empty roster or a hub that has not answered does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GOOD, UNKNOWN, WARN, BAD = "good", "unknown", "warn", "bad"
ROSTER_OLD_SECONDS = 14 * 86400
BACKLOG_OLD_SECONDS = 3600
DISK_LOW_BYTES = 200 << 20
DISK_FULL_BYTES = 8 << 20
POOR_SCORE = 60


@dataclass(frozen=True, slots=True)
class ReaderRow:
    name: str
    driver: str
    port: str
    point: str
    state: str
    detail: str
    firmware: str
    silent_seconds: float | None
    presentations: int
    errors: int
    resets: int
    score: int
    advice: str


@dataclass(frozen=True, slots=True)
class TapRow:
    """One event as the page lists it; `tail` is all that is shown of a card."""

    seq: int
    at: str
    point: str
    reader: str
    tail: str
    decision: str
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A snapshot of one gateway; ages and intervals in seconds, None for never or unknown.

    Attributes:
        faults: what could not start, as part and sentence.
        signed_in: how many people are in, as the kiosks here know it; None without a kiosk.
    """

    gateway: str
    site: str
    software: str
    boot: int
    running_seconds: float
    readers: tuple[ReaderRow, ...]
    doors: tuple[tuple[str, str], ...]
    hub_configured: bool
    link: str
    link_detail: str
    hub: str
    waiting: int
    oldest_seconds: float | None
    rtt_ms: float | None
    roster_version: int | None
    roster_cards: int
    roster_age_seconds: float | None
    roster_fault: str | None
    journal_state: str
    journal_detail: str
    journal_head: int
    journal_bytes: int
    sync_ms: float | None
    disk_free_bytes: int | None
    clock_quality: str
    clock_is_set: bool
    clock_at: str
    output_fault: str | None
    hanging: tuple[str, ...]
    granted: int
    denied: int
    faults: tuple[tuple[str, str], ...] = ()
    notice: str | None = None
    stopped: bool = False
    signed_in: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    level: str
    sentence: str
    remedy: str


def _hanging(view: GatewayView) -> Verdict | None:
    if not view.hanging:
        return None
    remedy = "The service will be restarted; if this happens again, check its log."
    return Verdict(BAD, f"{', '.join(view.hanging)} is not responding.", remedy)


def _journal(view: GatewayView) -> Verdict | None:
    if view.journal_state == "ok":
        return None
    return Verdict(BAD, f"The journal has a problem: {view.journal_detail}", "Free disk space or replace the card.")


def _readers(view: GatewayView) -> Verdict | None:
    gone = [row for row in view.readers if row.state not in {"ready", "degraded"}]
    if not gone:
        return None
    names = ", ".join(row.name for row in gone)
    return Verdict(BAD, f"{len(gone)} of {len(view.readers)} readers do not answer: {names}.", gone[0].detail)


def _site_key(view: GatewayView) -> Verdict | None:
    why = dict(view.faults).get("site key")
    return Verdict(BAD, "No site key: every tap is denied.", why) if why else None


def _roster_missing(view: GatewayView) -> Verdict | None:
    if view.roster_version is not None:
        return None
    why = view.roster_fault or "None has arrived from the hub yet."
    return Verdict(BAD, "No roster: every tap is denied.", why)


def _roster_empty(view: GatewayView) -> Verdict | None:
    if view.roster_version is None or view.roster_cards:
        return None
    return Verdict(BAD, "The roster holds no card: every tap is denied.", "Check the hub's MIS syncs and cards.")


def _disk(view: GatewayView) -> Verdict | None:
    free = view.disk_free_bytes
    if free is None or free >= DISK_LOW_BYTES:
        return None
    level = BAD if free < DISK_FULL_BYTES else WARN
    return Verdict(level, f"The disk has {free >> 20} MB left for taps.", "Free up space, or fit a larger card.")


def _poor_readers(view: GatewayView) -> Verdict | None:
    poor = [row for row in view.readers if row.state in {"ready", "degraded"} and row.score < POOR_SCORE]
    if not poor:
        return None
    worst = min(poor, key=lambda row: row.score)
    names = ", ".join(row.name for row in poor)
    return Verdict(WARN, f"{len(poor)} of {len(view.readers)} readers read poorly: {names}.", worst.advice)


def _no_reader(view: GatewayView) -> Verdict | None:
    if view.readers:
        return None
    return Verdict(WARN, "No reader is configured.", "`tapgate readers list` shows what is plugged in.")


def _backlog_old(view: GatewayView) -> Verdict | None:
    if not view.waiting or view.oldest_seconds is None or view.oldest_seconds < BACKLOG_OLD_SECONDS:
        return None
    hours = view.oldest_seconds / 3600
    sentence = f"{view.waiting} taps are waiting for the hub, the oldest for {hours:.0f} hours."
    return Verdict(WARN, sentence, view.link_detail or "Check this gateway on the hub's Gateways page.")


def _hub_unknown(view: GatewayView) -> Verdict | None:
    if not view.hub_configured or view.hub in {"ready", "lost"} or view.link == "offline":
        return None
    return Verdict(UNKNOWN, "The hub has not answered yet.", "Wait a moment, then check that tapgate-hub is running.")


def _output(view: GatewayView) -> Verdict | None:
    return Verdict(BAD, "A door output does not work.", view.output_fault) if view.output_fault else None


def _roster_fault(view: GatewayView) -> Verdict | None:
    if not view.roster_fault:
        return None
    return Verdict(
        WARN, f"The newest roster was refused; version {view.roster_version} stays in force.", view.roster_fault
    )


def _link(view: GatewayView) -> Verdict | None:
    if not view.hub_configured:
        return Verdict(WARN, "No hub is configured.", "Taps are stored on this gateway only; add a [hub] section.")
    if view.link != "offline":
        return None
    sentence = f"The hub cannot be reached; {view.waiting} taps are queued here, none are lost."
    return Verdict(WARN, sentence, view.link_detail or "Check the network and the broker.")


def _twin(view: GatewayView) -> Verdict | None:
    if not (view.stopped and view.notice):
        return None
    return Verdict(
        WARN, f"Another gateway uses this id; {view.waiting} taps are queued here, none are lost.", view.notice
    )


def _forked(view: GatewayView) -> Verdict | None:
    if not view.notice or view.stopped:
        return None
    sentence, _, remedy = view.notice.partition(": ")
    return Verdict(WARN, f"{sentence}.", remedy[:1].upper() + remedy[1:])


def _hub_lost(view: GatewayView) -> Verdict | None:
    if view.hub != "lost":
        return None
    return Verdict(
        WARN, f"The hub is down; {view.waiting} taps are queued here, none are lost.", "Doors and lanes keep working."
    )


def _roster_old(view: GatewayView) -> Verdict | None:
    if view.roster_age_seconds is None or view.roster_age_seconds < ROSTER_OLD_SECONDS:
        return None
    days = view.roster_age_seconds / 86400
    return Verdict(WARN, f"The roster is {days:.0f} days old.", "Check the hub's Gateways page and its last sync.")


def _clock(view: GatewayView) -> Verdict | None:
    if view.clock_quality != "free" or not view.clock_is_set:
        return None
    remedy = "Taps stay in order and their times are corrected later; check NTP."
    return Verdict(WARN, "The clock is not synchronised.", remedy)


def _clock_unset(view: GatewayView) -> Verdict | None:
    if view.clock_is_set:
        return None
    sentence = "The clock is not set: rules with hours cannot be checked."
    remedy = "Points follow their policy for an unset clock; connect a time server or fit a clock chip."
    return Verdict(WARN, sentence, remedy)


_LEVELS = (BAD, WARN, UNKNOWN)
_CHECKS: tuple[Callable[[GatewayView], Verdict | None], ...] = (
    _hanging,
    _journal,
    _site_key,
    _readers,
    _roster_missing,
    _roster_empty,
    _output,
    _disk,
    _clock_unset,
    _twin,
    _link,
    _hub_lost,
    _forked,
    _backlog_old,
    _poor_readers,
    _no_reader,
    _roster_fault,
    _roster_old,
    _clock,
    _hub_unknown,
)


def findings(view: GatewayView) -> list[Verdict]:
    """Return everything that needs attention, worst first; empty when all is good."""
    found = [finding for check in _CHECKS if (finding := check(view)) is not None]
    found += [Verdict(WARN, f"Started without: {part}.", why) for part, why in view.faults if part != "site key"]
    return sorted(found, key=lambda finding: _LEVELS.index(finding.level))


def verdict(view: GatewayView) -> Verdict:
    """Return the worst finding, or a good verdict when there is none."""
    found = findings(view)
    if found:
        return found[0]
    count = len(view.readers)
    return Verdict(GOOD, f"All good: {count} of {count} readers, hub connected, {view.waiting} waiting.", "")


def is_ready(view: GatewayView) -> bool:
    """Return whether taps can be served and recorded; a hub that is away does not count."""
    return verdict(view).level != BAD
