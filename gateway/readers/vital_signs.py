"""The health of a reader as one score and one sentence of advice."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.readers.base import Vitals

# Below these a reader is as good as new; a card at the edge of the field costs a retry now and then.
_RETRIES_PER_TAP = 0.3
_ERRORS_PER_TAP = 0.05
_ENOUGH_TAPS = 10
_OTHER_FORM_PER_TAP = 0.2
TAPS_LOST = "taps lost"
"""The counter of lines that the kernel has dropped parts of; each was somebody's tap."""


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement.

    Attributes:
        points: 100 for a reader without a sign, 0 for one that is lost.
        advice: what to check, empty when there is nothing.
    """

    points: int
    advice: str


def score(vitals: Vitals, since: Vitals | None = None) -> Score:
    """Judge a reader by its counters.

    Args:
        since: the counters some time ago, to judge the time between; None judges since the start.
    """
    if vitals.state in {"offline", "faulty"}:
        return Score(0, vitals.detail)

    def grown(name: str) -> int:
        return int(getattr(vitals, name)) - (int(getattr(since, name)) if since else 0)

    signs: list[tuple[int, str]] = []
    if resets := grown("resets"):
        signs.append(
            (min(20 * resets, 60), "it loses its settings: check its supply, add 100 nF and 10 uF at the board")
        )
    if reopens := grown("reopens"):
        signs.append((min(15 * reopens, 45), "its port comes and goes: check plug and cable"))
    taps, refused, dropped = grown("presentations"), grown("refused"), grown("dropped")
    signs += _unread(taps - refused, refused, dropped, vitals.proposal)
    if lost := vitals.counters.get(TAPS_LOST, 0) - (since.counters.get(TAPS_LOST, 0) if since else 0):
        signs.append((min(10 * lost, 40), f"{lost} taps were lost while the gateway was busy: check its memory card"))
    if vitals.state == "degraded":
        signs.append((30, vitals.detail))
    if taps >= _ENOUGH_TAPS:
        retries, errors = grown("retries") / taps, grown("errors") / taps
        if retries > _RETRIES_PER_TAP:
            signs.append(
                (min(int(30 * retries), 40), "cards need several attempts: metal behind it, or a weak antenna")
            )
        if errors > _ERRORS_PER_TAP and taps > refused:
            signs.append((min(int(200 * errors), 50), "numbers arrive damaged: long wires, noise, or a wrong setting"))
        if taps > refused > _OTHER_FORM_PER_TAP * taps:
            signs.append((15, "many cards have a different form than its settings say, and are complete: not noise"))
    if not signs:
        return Score(100, "")
    return Score(max(100 - sum(points for points, _ in signs), 5), max(signs)[1])


def _unread(read: int, refused: int, dropped: int, proposal: str) -> list[tuple[int, str]]:
    """Judge a reader that hears something and has never read a card."""
    if read > 0 or not (refused or dropped):
        return []
    if refused >= dropped:
        return [(60, f"its cards arrive complete, in a different form than its settings say: {proposal}")]
    return [(80, "nothing that it sends is a number" + (f"; try {proposal}" if proposal else ""))]
