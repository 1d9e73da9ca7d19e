"""Whether a mark may be written where teachers write too: pure.

Law of this file: nobody else's mark is ever overwritten. Only an empty register takes ours, and only what we wrote
ourselves, still as we last read it back, is replaced by something newer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

from gateway.hub.attendance.codes import EMPTY, ENGLAND, IN_THE_BUILDING, Meaning, meaning_of
from gateway.hub.attendance.derive import Proposal

_ABSENT = frozenset({Meaning.AUTHORISED, Meaning.UNAUTHORISED})


@dataclass(frozen=True, slots=True)
class MisMark:
    """A mark as the MIS has it now.

    Attributes:
        ours: it is what we wrote, in code, minutes and comment.
    """

    code: str
    minutes_late: int | None = None
    comment: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a proposal: write, confirmed, supersede, never or hold, and why where that needs a word."""

    verdict: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of the register beside the mark.

    Attributes:
        is_read: whether the MIS could be read.
        on_roll: whether it has this person; None where it does not say.
        codes: those of the MIS, None for England's.
    """

    day: date
    today: date
    is_read: bool = True
    write_blind: bool = False
    on_roll: bool | None = None
    codes: Collection[str] | None = None


def decide(proposal: Proposal, current: MisMark | None, terms: Terms) -> Verdict | None:
    """Return what becomes of a proposal; None where nothing is proposed and nobody has to decide."""
    if proposal.hold is not None:
        return Verdict("hold", proposal.hold)
    if proposal.code is None:
        return None
    if terms.on_roll is False:
        return Verdict("hold", "not_on_roll")
    if proposal.code not in (ENGLAND if terms.codes is None else terms.codes):
        return Verdict("hold", "code_unmapped")
    if terms.day < terms.today - timedelta(days=1):
        return Verdict("hold", "too_old")
    if not terms.is_read:
        return Verdict("write") if terms.write_blind else Verdict("hold", "cannot_read")
    return _against(proposal, current or MisMark(""))


def _against(proposal: Proposal, current: MisMark) -> Verdict:
    is_same = (proposal.minutes_late, proposal.comment) == (current.minutes_late, current.comment)
    if current.code == proposal.code and (is_same or not current.ours):
        return Verdict("confirmed")
    if current.code in EMPTY:
        return Verdict("write")
    if current.ours:
        return Verdict("supersede")
    if proposal.code in IN_THE_BUILDING and meaning_of(current.code) in _ABSENT:
        # In school by our evidence, and absent by somebody's word: a person must look, and soon.
        return Verdict("never", "alarm")
    return Verdict("never")
