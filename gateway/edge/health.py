"""How the gateway does, as one value that pages, health checks and doctor read; and the one sentence on top.

The verdict names the one worst thing and what to do about it, in the order written in _WORST.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GOOD, WARN, BAD = "good", "warn", "bad"
ROSTER_OLD_SECONDS = 14 * 86400


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
    """A snapshot of one gateway; ages and intervals in seconds, None for never or unknown."""

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
    clock_at: str
    output_fault: str | None
    hanging: tuple[str, ...]
    granted: int
    denied: int
    notice: str | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    level: str
    sentence: str
    remedy: str


def _hanging(view: GatewayView) -> Verdict | None:
    if not view.hanging:
        return None
    remedy = "The service will be restarted; if this comes back, read its log."
    return Verdict(BAD, f"{', '.join(view.hanging)} hangs.", remedy)


def _journal(view: GatewayView) -> Verdict | None:
    if view.journal_state == "ok":
        return None
    return Verdict(BAD, f"The journal is in trouble: {view.journal_detail}", "Free disk space or replace the card.")


def _readers(view: GatewayView) -> Verdict | None:
    gone = [row for row in view.readers if row.state not in {"ready", "degraded"}]
    if not gone:
        return None
    names = ", ".join(row.name for row in gone)
    return Verdict(BAD, f"{len(gone)} of {len(view.readers)} readers do not answer: {names}.", gone[0].detail)


def _roster_missing(view: GatewayView) -> Verdict | None:
    if view.roster_version is not None:
        return None
    why = view.roster_fault or "none has arrived from the hub yet."
    return Verdict(BAD, "No roster: every tap is denied.", why)


def _output(view: GatewayView) -> Verdict | None:
    return Verdict(BAD, "A door output does not work.", view.output_fault) if view.output_fault else None


def _roster_fault(view: GatewayView) -> Verdict | None:
    if not view.roster_fault:
        return None
    return Verdict(WARN, f"Roster {view.roster_version} stays in force, the newest was refused.", view.roster_fault)


def _link(view: GatewayView) -> Verdict | None:
    if not view.hub_configured:
        return Verdict(WARN, "No hub is configured.", "Taps are kept here only; add a [hub] section.")
    if view.link != "offline":
        return None
    sentence = f"The hub cannot be reached; {view.waiting} taps wait here, none is lost."
    return Verdict(WARN, sentence, view.link_detail or "Check the network and the broker.")


def _twin(view: GatewayView) -> Verdict | None:
    if not (view.stopped and view.notice):
        return None
    return Verdict(WARN, f"Another gateway uses this id; {view.waiting} taps wait here, none is lost.", view.notice)


def _forked(view: GatewayView) -> Verdict | None:
    if not view.notice or view.stopped:
        return None
    sentence, _, remedy = view.notice.partition(": ")
    return Verdict(WARN, f"{sentence}.", remedy[:1].upper() + remedy[1:])


def _hub_lost(view: GatewayView) -> Verdict | None:
    if view.hub != "lost":
        return None
    return Verdict(WARN, f"The hub is down; {view.waiting} taps wait here, none is lost.", "Doors and lanes go on.")


def _roster_old(view: GatewayView) -> Verdict | None:
    if view.roster_age_seconds is None or view.roster_age_seconds < ROSTER_OLD_SECONDS:
        return None
    days = view.roster_age_seconds / 86400
    return Verdict(WARN, f"The roster is {days:.0f} days old.", "Look at the hub's gateways page and its last sync.")


def _clock(view: GatewayView) -> Verdict | None:
    if view.clock_quality != "free":
        return None
    remedy = "Taps are kept in order and their times repaired later; check NTP."
    return Verdict(WARN, "The clock is not synchronised.", remedy)


_WORST: tuple[Callable[[GatewayView], Verdict | None], ...] = (
    _hanging,
    _journal,
    _readers,
    _roster_missing,
    _output,
    _twin,
    _link,
    _hub_lost,
    _forked,
    _roster_fault,
    _roster_old,
    _clock,
)


def verdict(view: GatewayView) -> Verdict:
    """Return the one worst thing, or that all is good."""
    found = [worst for check in _WORST if (worst := check(view)) is not None]
    for level in (BAD, WARN):
        for worst in found:
            if worst.level == level:
                return worst
    count = len(view.readers)
    readers = f"{count} of {count} readers" if count else "no reader configured"
    return Verdict(GOOD, f"All good: {readers}, hub connected, {view.waiting} waiting.", "")


def is_ready(view: GatewayView) -> bool:
    """Tell whether taps can be served and recorded; a hub that is away does not count."""
    return verdict(view).level != BAD
