"""The parts of hub.toml that turn a tap into a mark: sessions of the register, actions, and a site's choices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from typing import Any

from gateway.config.common import check_id, check_texts, one_of, read_clock
from gateway.settings_file import SettingsFile, Table

SESSION_NAMES = ("AM", "PM", "DAY")
ANCHORS = ("before_starts", "before_closes", "before_ends")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_NAME_CHARS = 100
_CODE = re.compile(r"\S{1,8}")
_CODE_FORM = "must be a code of the MIS such as L, at most 8 characters"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """When a register is taken: half-open local times in the site's zone.

    Attributes:
        days: weekdays, 0 for Monday.
        years: year groups that it is for, empty for all.
    """

    name: str
    days: frozenset[int]
    opens: time
    starts: time
    closes: time
    ends: time
    years: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionSettings:
    """What somebody may choose at a kiosk, and the mark that it means.

    Attributes:
        kind: `sign` changes presence, `check` does not.
        code: the fixed code, None where `codes` decide by the time or there is none.
        codes: a code for each of ANCHORS, the first that the time lies before.
        confirm: whether an authorised code waits for the office.
        user_types, points: for whom (roles and groups, as in rules) and where it is offered, empty for all.
    """

    id: str
    name: str
    kind: str
    direction: str
    code: str | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    confirm: bool = True
    reason: str = "none"
    photo: str = "inherit"
    terms: str = "inherit"
    user_types: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisterSettings:
    """How a site derives marks.

    Attributes:
        present_marks: whether being in when a register starts is a present mark; a tap is no roll call, so it is off.
        out_code_when: whether the code of somebody who left is proposed for the next session once it has closed without
            them (`missed`) or at once.
        pm_presence: whether the afternoon needs a sign-in of its own (`fresh_tap`) or trusts the morning's.
        write_blind: whether marks may be written where the MIS cannot be read.
        sign_out_at: local time at which whoever is still in is signed out, marked as automatic; None: never.
    """

    sessions: tuple[SessionSettings, ...] = ()
    actions: tuple[ActionSettings, ...] = ()
    present_marks: bool = False
    out_code_when: str = "missed"
    pm_presence: str = "fresh_tap"
    minutes_late_from: str = "starts"
    write_blind: bool = False
    sign_out_at: time | None = None


def take_register(file: SettingsFile, item: Table) -> RegisterSettings:
    """Read these parts of one site."""
    sessions = [_session(table) for table in file.tables("site.session", item.values, item.place)]
    _check_overlaps(item, [session for session in sessions if session is not None])
    actions: list[ActionSettings] = []
    for table in file.tables("site.action", item.values, item.place):
        action = _action(table)
        if any(other.id == action.id for other in actions):
            table.problem("name", f"the action {action.id!r} is there already; choose another name, or give it an id")
        actions.append(action)
    for key in ("session", "action"):
        item.take(key, list, [])
    return RegisterSettings(
        sessions=tuple(session for session in sessions if session is not None),
        actions=tuple(actions),
        present_marks=item.take("present_marks", bool, False),
        out_code_when=item.take("out_code_when", str, "missed", one_of(("missed", "at_once"))),
        pm_presence=item.take("pm_presence", str, "fresh_tap", one_of(("fresh_tap", "trusted"))),
        minutes_late_from=item.take("minutes_late_from", str, "starts", one_of(("starts", "closes"))),
        write_blind=item.take("write_blind", bool, False),
        sign_out_at=_clock(item, "sign_out_at", None),
    )


def _session(table: Table) -> SessionSettings | None:
    name = table.take("name", str, check=one_of(SESSION_NAMES))
    days = _days(table)
    clocks = [_clock(table, key) for key in ("opens", "starts", "closes", "ends")]
    years = tuple(table.take("years", list, [], check_texts))
    table.finish()
    if any(clock is None for clock in clocks):
        return None
    opens, starts, closes, ends = (clock for clock in clocks if clock is not None)
    if not opens <= starts < closes < ends:
        table.problem("starts", "opens, starts, closes and ends must follow one another within the day")
        return None
    if _minutes(closes) - _minutes(starts) > 30:
        table.file.warn(f"{table.place}.closes", "the register is open for more than 30 minutes")
    return SessionSettings(name, days, opens, starts, closes, ends, years)


def _minutes(clock: time) -> int:
    return clock.hour * 60 + clock.minute


def _clock(table: Table, key: str, *default: None) -> time | None:
    text = table.take(key, str, *default)
    clock = read_clock(text)
    if clock is None and text:
        table.problem(key, 'must be a local time such as "08:45"')
    return clock


def _days(table: Table) -> frozenset[int]:
    days: set[int] = set()
    for part in table.take("days", str, "mon-fri").replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in _WEEKDAYS or (last or first) not in _WEEKDAYS:
            table.problem("days", 'must be such as "mon-fri" or "mon,wed"')
            return frozenset(range(5))
        begin, end = _WEEKDAYS.index(first), _WEEKDAYS.index(last or first)
        days.update(range(begin, end + 1) if begin <= end else [*range(begin, 7), *range(end + 1)])
    return frozenset(days)


def _check_overlaps(item: Table, sessions: list[SessionSettings]) -> None:
    for number, one in enumerate(sessions):
        for other in sessions[number + 1 :]:
            same_people = not one.years or not other.years or set(one.years) & set(other.years)
            if one.days & other.days and same_people and one.starts < other.ends and other.starts < one.ends:
                item.problem("session", f"{one.name} and {other.name} overlap on the same days for the same years")


def _check_name(text: str) -> str | None:
    # It stands on a button, and travels with the roster.
    return None if 0 < len(text.strip()) <= MOST_NAME_CHARS else f"must have 1 to {MOST_NAME_CHARS} characters"


def _action(table: Table) -> ActionSettings:
    name = table.take("name", str, check=_check_name)
    code = table.take("code", str, None, lambda value: None if _CODE.fullmatch(value) else _CODE_FORM)
    codes = table.take("codes", dict, {})
    if code is not None and codes:
        table.problem("codes", "stands beside code; write one of the two")
    action = ActionSettings(
        id=table.take("id", str, re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:63] or "action", check_id),
        name=name,
        kind=table.take("kind", str, "sign", one_of(("sign", "check"))),
        direction=table.take("direction", str, check=one_of(("in", "out"))),
        code=code,
        codes=_codes(table, codes),
        confirm=table.take("confirm", bool, True),
        reason=table.take("reason", str, "none", one_of(("ask", "none"))),
        photo=table.take("photo", str, "inherit", one_of(("inherit", "yes", "no"))),
        terms=table.take("terms", str, "inherit", one_of(("inherit", "yes", "no"))),
        user_types=tuple(table.take("user_types", list, [], check_texts)),
        points=tuple(table.take("points", list, [], check_texts)),
    )
    if action.codes and action.direction == "out":
        table.problem("codes", "are for coming in; leaving has one code")
    table.finish()
    return action


def _codes(table: Table, codes: Mapping[str, Any]) -> dict[str, str]:
    for anchor, code in codes.items():
        if anchor not in ANCHORS:
            table.problem("codes", f"{anchor!r} is no time; choose from {', '.join(ANCHORS)}")
        elif not isinstance(code, str) or not _CODE.fullmatch(code):
            table.problem("codes", f"{anchor} {_CODE_FORM}")
    if codes and "before_ends" not in codes:
        table.problem("codes", "need before_ends, so that every time has a code")
    return {anchor: code for anchor in ANCHORS if isinstance(code := codes.get(anchor), str)}
