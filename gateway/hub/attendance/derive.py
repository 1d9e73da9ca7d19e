"""What the movements of one person and day mean for each session: pure, and never more than the evidence says.

Law of this file: nobody is marked because they did not tap, and where a mark hangs on something unsure, it is held: it
is derived again without what may be automatic or copied and at every time that a bounded clock allows, and if another
code comes out, a person decides.

    in when the register starts           the code of the action, else a present mark where the site wants these
    first in before it closes             the code of the action, else L and the minutes
    first in after it closed              the reason given before leaving, the code of the action, else U
    left with a reason, not come in       the reason, for this session or, where they were in, for the next
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.config import ActionSettings, RegisterSettings
from gateway.hub.attendance.codes import LATE, LATE_AFTER_CLOSING, Meaning, meaning_of
from gateway.hub.attendance.sessions import SchoolDay, Session

_MINUTE_MS = 60_000
MOST_MOVEMENTS = 200


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of one person.

    Attributes:
        action: what was chosen, None where a tap alone was the movement.
        error_ms: how far the true time may lie from `at_ms`, None where nothing bounds it.
        automatic: made by the end of a day and not by a person.
        copied: by a card that may be a copy.
    """

    key: str
    at_ms: int
    direction: str
    kind: str = "sign"
    action: ActionSettings | None = None
    error_ms: int | None = 0
    automatic: bool = False
    copied: bool = False

    @property
    def is_in(self) -> bool:
        return self.direction == "in"

    @property
    def out_code(self) -> str | None:
        """Return the reason for leaving as a code, None without one."""
        return self.action.code if self.action is not None and not self.is_in else None


@dataclass(frozen=True, slots=True)
class Proposal:
    """The mark of one session as the movements say it.

    Attributes:
        evidence: the keys of the movements that it rests on.
        hold: why a person must decide; None where the evidence does.
    """

    session: str
    code: str | None
    minutes_late: int | None = None
    comment: str = ""
    evidence: tuple[str, ...] = ()
    hold: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The register of the MIS as it was last read.

    Attributes:
        codes: the person's marks by session, empty texts included.
    """

    read_ms: int
    codes: Mapping[str, str]


def derive(
    movements: Sequence[Movement],
    day: SchoolDay,
    register: RegisterSettings,
    reading: Reading | None,
    now_ms: int,
) -> list[Proposal]:
    """Return a proposal for each session of the day, with code None where nothing is proposed.

    Args:
        movements: of one person, in any order, those of other days ignored.
        reading: None while the MIS has not been read.
    """
    ordered = sorted(movements, key=lambda item: (item.at_ms, item.key))
    of_day = [item for item in ordered if _may_be_of(item, day)][:MOST_MOVEMENTS]
    known = _Day(day, register, reading, now_ms)
    proposals = known.judge([item for item in of_day if day.begins_ms <= item.at_ms < day.ends_ms])
    for why, others in _doubts(of_day, day):
        for number, other in enumerate(known.judge(others)):
            mine = proposals[number]
            if mine.hold is None and other.code != mine.code:
                proposals[number] = replace(mine, hold=why, evidence=mine.evidence or other.evidence)
    return proposals


def _may_be_of(item: Movement, day: SchoolDay) -> bool:
    low, high = _bounds(item, day)
    return high >= day.begins_ms and low < day.ends_ms


def _bounds(item: Movement, day: SchoolDay) -> tuple[int, int]:
    """Return the earliest and the latest time that a movement may have had, within the day where nothing bounds it."""
    if item.error_ms is None:
        return day.begins_ms, day.ends_ms
    return item.at_ms - item.error_ms, item.at_ms + item.error_ms


def _doubts(movements: list[Movement], day: SchoolDay) -> Iterator[tuple[str, list[Movement]]]:
    """Yield the day again as it may have been, with the word for the doubt."""
    sure = [item for item in movements if not item.automatic]
    if len(sure) < len(movements):
        yield "automatic", sure
    sure = [item for item in movements if not item.copied]
    if len(sure) < len(movements):
        yield "copied", sure
    edges = [edge for item in day.sessions for edge in (item.starts_ms, item.closes_ms, item.ends_ms)]
    for number, item in enumerate(movements):
        if item.error_ms == 0:
            continue
        low, high = _bounds(item, day)
        # A code changes only where an edge, or another movement, lies between.
        others = [other.at_ms for other in movements if other is not item]
        times = {low, high}
        times |= {at + step for at in (*edges, *others) for step in (-1, 0, 1) if low <= at + step <= high}
        for at_ms in sorted(times):
            moved = [*movements[:number], replace(item, at_ms=at_ms), *movements[number + 1 :]]
            yield "time_unsure", [other for other in moved if day.begins_ms <= other.at_ms < day.ends_ms]


@dataclass(frozen=True, slots=True)
class _Day:
    day: SchoolDay
    register: RegisterSettings
    reading: Reading | None
    now_ms: int

    def judge(self, movements: list[Movement]) -> list[Proposal]:
        ordered = sorted(movements, key=lambda item: item.at_ms)
        return [self._session(ordered, number) for number in range(len(self.day.sessions))]

    def _session(self, ordered: list[Movement], number: int) -> Proposal:
        session = self.day.sessions[number]
        last = self._move_before(ordered, session)
        if last is not None and last.is_in:
            return self._was_in(ordered, session, last)
        checked = _last([item for item in ordered if session.begins_ms <= item.at_ms < session.starts_ms])
        if checked is not None and checked.is_in and (code := _present_code(checked)):
            return Proposal(session.name, code, evidence=(checked.key,))
        arrival = self._arrival(ordered, session)
        if arrival is not None:
            return self._came(ordered, session, arrival)
        return self._reason(ordered, number)

    def _move_before(self, ordered: list[Movement], session: Session) -> Movement | None:
        """Return what says whether somebody is there when a register starts, as far back as the site trusts it."""
        last = _last([item for item in ordered if _moves(item) and item.at_ms < session.starts_ms])
        since_ms = self.day.begins_ms if self.register.pm_presence == "trusted" else session.begins_ms
        return last if last is not None and last.at_ms >= since_ms else None

    def _was_in(self, ordered: list[Movement], session: Session, last: Movement) -> Proposal:
        before = [item for item in ordered if last.at_ms <= item.at_ms < session.starts_ms and item.is_in]
        evidence = (last.key,)
        for item in reversed(before):
            if code := _present_code(item):
                return Proposal(session.name, code, evidence=tuple(dict.fromkeys((last.key, item.key))))
        if last.action is not None and (code := last.action.codes.get("before_starts")):
            return Proposal(session.name, code, evidence=evidence)
        if self.register.present_marks:
            return Proposal(session.name, "\\" if session.name == "PM" else "/", evidence=evidence)
        return Proposal(session.name, None, evidence=evidence)

    def _arrival(self, ordered: list[Movement], session: Session) -> Movement | None:
        is_inside = False
        for item in ordered:
            if item.at_ms >= session.ends_ms:
                return None
            if item.at_ms < session.starts_ms:
                # Whoever signed in earlier and has not left since is there, trusted for a mark or not.
                is_inside = item.is_in if _moves(item) else is_inside
            elif not item.is_in:
                # Whoever leaves after the register closed was there: coming back is no arrival.
                is_inside = is_inside or item.at_ms >= session.closes_ms
            elif _counts(item):
                return None if is_inside else item
        return None

    def _came(self, ordered: list[Movement], session: Session, arrival: Movement) -> Proposal:
        action, is_late = arrival.action, arrival.at_ms < session.closes_ms
        evidence = (arrival.key,)
        late_from = session.starts_ms if self.register.minutes_late_from == "starts" else session.closes_ms
        minutes = max(0, (arrival.at_ms - late_from) // _MINUTE_MS) or None
        if is_late:
            code = action.codes.get("before_closes") or action.codes.get("before_ends") if action else None
            comment = ""
            if action is not None and action.code is not None:
                code = action.code if meaning_of(action.code) is Meaning.PRESENT else LATE
                comment = "" if code == action.code else action.name
            code = code or LATE
            return Proposal(session.name, code, minutes if code == LATE else None, comment, evidence)
        if action is not None and action.code is not None:
            return Proposal(session.name, action.code, evidence=evidence)
        code = (action.codes.get("before_ends") if action else None) or LATE_AFTER_CLOSING
        if code == LATE_AFTER_CLOSING:
            left = _last([item for item in ordered if item.at_ms < arrival.at_ms])
            if left is not None and left.out_code and left.at_ms < session.closes_ms:
                return Proposal(session.name, left.out_code, evidence=(left.key, arrival.key))
            return Proposal(session.name, code, minutes, evidence=evidence)
        return Proposal(session.name, code, evidence=evidence)

    def _reason(self, ordered: list[Movement], number: int) -> Proposal:
        session = self.day.sessions[number]
        left = _last([item for item in ordered if item.at_ms < session.ends_ms])
        of_session = [item for item in ordered if session.begins_ms <= item.at_ms < session.ends_ms]
        nothing = Proposal(session.name, None, evidence=tuple(item.key for item in of_session))
        if left is None or left.out_code is None:
            return nothing
        proposal = Proposal(session.name, left.out_code, evidence=(left.key,))
        if left.at_ms >= session.begins_ms:
            if left.at_ms < session.starts_ms:
                return nothing if self._is_marked(session) else proposal
            if self.reading is None or self.reading.read_ms < session.closes_ms:
                return replace(proposal, hold="register_not_read")
            return nothing if self._is_marked(session) else proposal
        if number == 0 or not self._is_meant_for_next(ordered, number - 1, left):
            return nothing
        is_due = self.register.out_code_when == "at_once" or self.now_ms >= session.closes_ms
        return proposal if is_due else nothing

    def _is_meant_for_next(self, ordered: list[Movement], number: int, left: Movement) -> bool:
        """Return whether somebody who left in a session was in it, so that the reason is for the one after."""
        session = self.day.sessions[number]
        if not session.begins_ms <= left.at_ms < session.ends_ms:
            return False
        last = self._move_before(ordered, session)
        came = self._arrival(ordered, session)
        was_in = (last is not None and last.is_in) or (came is not None and came.at_ms < left.at_ms)
        return was_in or self._is_marked(session)

    def _is_marked(self, session: Session) -> bool:
        return self.reading is not None and meaning_of(self.reading.codes.get(session.name, "")) is Meaning.PRESENT


def _moves(item: Movement) -> bool:
    # A check-out leaves presence as it is, but whoever was taken to the dentist is not there to answer.
    return item.kind == "sign" or not item.is_in


def _counts(item: Movement) -> bool:
    # A check-in that has no code says where somebody is, not that they have come.
    return item.kind == "sign" or item.action is None or bool(item.action.code or item.action.codes)


def _present_code(item: Movement) -> str | None:
    code = item.action.code if item.action is not None else None
    return code if code is not None and meaning_of(code) is Meaning.PRESENT else None


def _last(items: Sequence[Movement]) -> Movement | None:
    return items[-1] if items else None
