"""The register of one day at one site, as movements and the office say it; nothing is sent anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, true

from gateway.access.schedule import Calendar
from gateway.config import ActionSettings, RegisterSettings
from gateway.errors import RefusedError
from gateway.hub.attendance.codes import ENGLAND, Meaning, meaning_of
from gateway.hub.attendance.derive import Movement, Proposal, derive
from gateway.hub.attendance.sessions import SchoolDay, school_day
from gateway.hub.directory.register import load_calendar, load_register
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.work.times import day_bounds

MOST_MINUTES = 600
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Evidence:
    """A movement that a mark rests on."""

    at: datetime
    direction: str
    point: str
    action: str | None
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody of the office decided; `code` None: no mark."""

    code: str | None
    minutes_late: int | None
    comment: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one pupil and session.

    Attributes:
        code: the one that counts: the office's where it decided, else that of the movements; None: no mark.
        state: `proposed`, `held` until somebody decides, or `decided`.
        hold: why somebody must decide, as derive says it.
        proposal: the code that the movements give, where the office decided something else.
    """

    person: str
    person_key: str
    name: str
    group: str
    session: str
    code: str | None
    minutes_late: int | None
    comment: str
    state: str
    hold: str | None
    proposal: str | None
    evidence: tuple[Evidence, ...]
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class DayMarks:
    """A day of a site's register.

    Attributes:
        sessions: the names of the registers that any year group has on this day, in order.
        marks: by session and name; whoever has none is not among them.
        came: how many pupils have a movement on this day.
    """

    sessions: tuple[str, ...]
    marks: tuple[Mark, ...]
    came: int


@dataclass(frozen=True, slots=True)
class _Site:
    id: str
    zone: ZoneInfo
    register: RegisterSettings
    calendar: Calendar


def read_day(
    connection: Connection, site: str, day: date, now_ms: int, within: ColumnElement[bool] | None = None
) -> DayMarks:
    """Derive the marks of a day from what is known now.

    Args:
        within: a condition on `person` such as `Scope.rows`; None for everybody.

    Raises:
        RefusedError: there is no such site.
    """
    owner = _load_site(connection, site)
    people = _load_people(connection, site, true() if within is None else within)
    begins_ms, ends_ms = (to_ms(moment) for moment in day_bounds(day, owner.zone))
    actions = {action.id: action for action in owner.register.actions}
    movements, evidence = _load_movements(connection, owner, begins_ms, ends_ms, actions)
    decisions = _load_decisions(connection, owner, day)
    days: dict[str | None, SchoolDay] = {}
    marks: list[Mark] = []
    sessions: dict[str, int] = {}
    for ref, person in people.items():
        if person.year not in days:
            days[person.year] = school_day(owner.register, day, owner.zone, person.year, owner.calendar)
            sessions |= {item.name: item.starts_ms for item in days[person.year].sessions}
        of_day = days[person.year]
        proposals = {item.name: Proposal(item.name, None) for item in of_day.sessions}
        if movements.get(ref):
            at_ms = min(max(now_ms, of_day.begins_ms), of_day.ends_ms - 1)
            proposals |= {item.session: item for item in derive(movements[ref], of_day, owner.register, None, at_ms)}
        for name, proposal in proposals.items():
            due = _confirmed(proposal, movements.get(ref, []))
            mark = _mark(person, due, decisions.get((ref, name)), evidence)
            if mark is not None:
                marks.append(mark)
    names = tuple(sorted(sessions, key=lambda name: sessions[name]))
    marks.sort(key=lambda mark: (names.index(mark.session), people[mark.person].sort_name, mark.person))
    return DayMarks(names, tuple(marks), sum(ref in people for ref, some in movements.items() if some))


def _confirmed(proposal: Proposal, movements: list[Movement]) -> Proposal:
    """Return a proposal, held where an excuse that was chosen at a kiosk is the office's to confirm."""
    if proposal.hold is not None or proposal.code is None or meaning_of(proposal.code) is not Meaning.AUTHORISED:
        return proposal
    chosen = [item.action for item in movements if item.key in proposal.evidence and item.action is not None]
    waits = any(action.confirm and action.code == proposal.code for action in chosen)
    return replace(proposal, hold="confirm") if waits else proposal


def _mark(person: Any, proposal: Proposal, decision: Decision | None, evidence: Mapping[str, Evidence]) -> Mark | None:
    if decision is None and proposal.code is None and proposal.hold is None:
        return None
    mark = Mark(
        person=person.ref,
        person_key=person.person_key,
        name=f"{person.given_name} {person.family_name}".strip(),
        group=person.form or person.year or "",
        session=proposal.session,
        code=proposal.code,
        minutes_late=proposal.minutes_late,
        comment=proposal.comment,
        state="held" if proposal.hold else "proposed",
        hold=proposal.hold,
        proposal=None,
        evidence=tuple(evidence[key] for key in proposal.evidence),
        decision=decision,
    )
    if decision is None:
        return mark
    return replace(
        mark,
        state="decided",
        proposal=proposal.code if proposal.code != decision.code else None,
        code=decision.code,
        minutes_late=decision.minutes_late,
        comment=decision.comment,
    )


def decide_mark(
    connection: Connection,
    site: str,
    person: str,
    day: date,
    session: str,
    decision: tuple[str | None, int | None] | None,
    audit: Audit,
) -> None:
    """Store what somebody decided about one mark: a code (None: no mark) with its minutes, or to withdraw that.

    The reason of the audit becomes the comment.

    Raises:
        RefusedError: the pupil has no such session on that day, or there is no such code.
    """
    owner = _load_site(connection, site)
    table, people = tables.attendance_mark, tables.person.c
    query = select(people.year).where(people.ref == person, people.site == site, people.role == "student")
    row = connection.execute(query).one_or_none()
    of_day = school_day(owner.register, day, owner.zone, row.year if row else None, owner.calendar)
    if row is None or session not in {item.name for item in of_day.sessions}:
        raise RefusedError(f"There is no register {session} on {day} for this pupil; look at [[site.session]].")
    key = (table.c.site == site, table.c.person == person, table.c.day == day, table.c.session == session)
    connection.execute(delete(table).where(*key))
    if decision is None:
        audit.note("mark_withdrawn", person, day=day.isoformat(), session=session)
        return
    code, minutes = decision
    if code is not None and code not in ENGLAND:
        raise RefusedError(f"{code!r} is no attendance code; write one such as L, U or M.")
    if minutes is not None and not 0 <= minutes <= MOST_MINUTES:
        raise RefusedError(f"Minutes late must be from 0 to {MOST_MINUTES}.")
    values = {"code": code, "minutes_late": minutes or None, "comment": audit.reason or ""}
    connection.execute(
        insert(table).values(
            site=site, person=person, day=day, session=session, by=audit.actor, at_ms=audit.at_ms, **values
        )
    )
    audit.note("mark_decided", person, day=day.isoformat(), session=session, code=code, minutes_late=minutes)


def _load_site(connection: Connection, site: str) -> _Site:
    zone = connection.scalar(select(tables.site.c.timezone).where(tables.site.c.id == site))
    if zone is None:
        raise RefusedError(f"There is no site {site!r}; choose one of hub.toml.")
    return _Site(site, ZoneInfo(zone), load_register(connection, site), load_calendar(connection, site))


def _load_people(connection: Connection, site: str, within: ColumnElement[bool]) -> dict[str, Any]:
    person = tables.person.c
    columns = (person.ref, person.person_key, person.given_name, person.family_name, person.sort_name)
    query = select(*columns, person.year, person.form).where(person.site == site, person.role == "student", within)
    # Whoever leaves later had marks until then, and keeps what was decided.
    return {row.ref: row for row in connection.execute(query.where(person.state != "out_of_scope"))}


def _load_movements(
    connection: Connection, owner: _Site, begins_ms: int, ends_ms: int, actions: Mapping[str, ActionSettings]
) -> tuple[dict[str, list[Movement]], dict[str, Evidence]]:
    table = tables.movement
    at = table.c.at_ms
    # A time that is not sure may lie on the other side of midnight.
    near = (table.c.at_how != "set") & at.between(begins_ms - _DAY_MS, ends_ms + _DAY_MS)
    in_time = or_(at.between(begins_ms, ends_ms - 1), near)
    query = select(table).where(table.c.site == owner.id, in_time, ~table.c.is_replaced)
    found: dict[str, list[Movement]] = defaultdict(list)
    evidence: dict[str, Evidence] = {}
    for row in connection.execute(query):
        key = f"{row.gateway}/{row.epoch}/{row.seq}"
        action = actions.get(row.action or "")
        is_sure = row.at_how == "set"
        found[row.person].append(
            Movement(
                key=key,
                at_ms=row.at_ms,
                direction=row.direction,
                kind=row.kind,
                action=action,
                error_ms=0 if is_sure else row.at_error_ms,
                automatic=row.automatic,
            )
        )
        at_local = from_ms(row.at_ms, owner.zone)
        evidence[key] = Evidence(at_local, row.direction, row.point or "", action.name if action else None, is_sure)
    hand = tables.hand_movement
    at = hand.c.at_ms
    of_day = select(hand).where(hand.c.site == owner.id, at.between(begins_ms, ends_ms - 1))
    for row in connection.execute(of_day.where(hand.c.withdrawn_ms.is_(None))):
        key = f"hand/{row.id}"
        found[row.person].append(Movement(key, row.at_ms, row.direction, automatic=row.automatic))
        evidence[key] = Evidence(from_ms(row.at_ms, owner.zone), row.direction, "by hand", None, is_sure=True)
    return found, evidence


def _load_decisions(connection: Connection, owner: _Site, day: date) -> dict[tuple[str, str], Decision]:
    table = tables.attendance_mark
    rows = connection.execute(select(table).where(table.c.site == owner.id, table.c.day == day))
    return {
        (row.person, row.session): Decision(
            row.code, row.minutes_late, row.comment, row.by, from_ms(row.at_ms, owner.zone)
        )
        for row in rows
    }
