"""Movements and a register from files, and what would become of them; nothing is stored or sent."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.access.schedule import Calendar
from gateway.config import ActionSettings, RegisterSettings
from gateway.errors import RefusedError
from gateway.hub.attendance.arbiter import MisMark, Terms, decide
from gateway.hub.attendance.derive import MOST_MOVEMENTS, Movement, Proposal, Reading, derive
from gateway.hub.attendance.sessions import SchoolDay, school_day
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.work.times import local_moment

MOST_BYTES = 16 << 20
_MOST_DIGITS = 12
_STATES = {"write": "wanted", "supersede": "wanted", "confirmed": "confirmed", "hold": "held", "never": "conflict"}


@dataclass(slots=True)
class Person:
    """The movements of one person, and the year group that decides about their sessions."""

    year: str | None = None
    movements: list[Movement] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Register:
    """What a file says of the MIS.

    Attributes:
        marks: by person and session.
        codes: the codes that the MIS has, None where the file does not say.
        on_roll: whom the MIS has, None where the file does not say.
    """

    read_ms: int | None = None
    marks: Mapping[tuple[str, str], MisMark] = field(default_factory=dict)
    codes: frozenset[str] | None = None
    on_roll: frozenset[str] | None = None


def read_movements(path: Path, register: RegisterSettings, day: date, zone: ZoneInfo) -> dict[str, Person]:
    """Read movements from JSON (a list, or an object with `movements`) or, by its ending, from CSV.

    Raises:
        RefusedError: the file or one of its rows cannot be used; the text names the row and quotes no value.
    """
    people: dict[str, Person] = defaultdict(Person)
    actions = {action.id: action for action in register.actions}
    for number, row in enumerate(_rows(path, _load(path), "movements"), 1):
        where = f"Movement {number} of {path}"
        key = _text(row, "person_key", where)
        person = people[key]
        if year := row.get("year"):
            person.year = str(year)
        person.movements.append(_movement(row, number, where, actions, day, zone))
        if len(person.movements) > MOST_MOVEMENTS:
            raise RefusedError(f"{where} is one of more than {MOST_MOVEMENTS} of one person; look at the file.")
    return dict(people)


def _movement(
    row: Mapping[str, Any], number: int, where: str, actions: Mapping[str, ActionSettings], day: date, zone: ZoneInfo
) -> Movement:
    action, kind, direction = None, row.get("kind") or "sign", row.get("direction")
    if name := row.get("action"):
        action = actions.get(str(name))
        if action is None:
            known = ", ".join(sorted(actions)) or "none"
            raise RefusedError(f"{where} has an action that hub.toml does not have; it has {known}.")
        kind, direction = action.kind, action.direction
    if direction not in {"in", "out"} or kind not in {"sign", "check"}:
        raise RefusedError(f'{where} needs direction "in" or "out", and kind "sign" or "check" where it has one.')
    if code := row.get("code"):
        action = ActionSettings(f"code-{number}", str(row.get("reason") or code), kind, direction, code=str(code))
    error = row.get("at_error_ms")
    if error in (None, ""):
        error = None if row.get("clock") == "free" else 0
    elif not _is_number(error):
        raise RefusedError(f"{where} has an at_error_ms that is no number of milliseconds.")
    return Movement(
        key=str(row.get("id") or number),
        at_ms=_moment(row.get("at"), where, day, zone),
        direction=direction,
        kind=kind,
        action=action,
        error_ms=None if error is None else int(error),
        automatic=_flag(row, "automatic"),
        copied=_flag(row, "copied"),
    )


def read_register(path: Path, day: date, zone: ZoneInfo) -> Register:
    """Read marks of the MIS from JSON (a list, or an object with `marks`) or, by its ending, from CSV.

    The object may also have `read_at`, `codes` and `on_roll`.

    Raises:
        RefusedError: as for `read_movements`.
    """
    whole = _load(path)
    marks = {}
    for number, row in enumerate(_rows(path, whole, "marks"), 1):
        where = f"Mark {number} of {path}"
        minutes = row.get("minutes_late", row.get("minutes"))
        if minutes not in (None, "") and not _is_number(minutes):
            raise RefusedError(f"{where} has minutes that are no number.")
        key = _text(row, "person_key", where), _text(row, "session", where)
        marks[key] = MisMark(
            code=str(row.get("code") or ""),
            minutes_late=int(minutes) if minutes else None,
            comment=str(row.get("comment") or ""),
            ours=_flag(row, "ours"),
        )
    if not isinstance(whole, dict):
        return Register(marks=marks)
    read_at = whole.get("read_at")
    return Register(
        None if read_at is None else _moment(read_at, f"read_at of {path}", day, zone),
        marks,
        _some(whole, "codes", path),
        _some(whole, "on_roll", path),
    )


def _some(whole: Mapping[str, Any], name: str, path: Path) -> frozenset[str] | None:
    value = whole.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise RefusedError(f"{name} of {path} must be a list of texts.")
    return frozenset(str(item) for item in value)


def _rows(path: Path, whole: Any, name: str) -> list[Mapping[str, Any]]:
    rows = whole.get(name) if isinstance(whole, dict) else whole
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RefusedError(f"{path} must be a list of objects, or an object with the list {name!r}.")
    return rows


def _load(path: Path) -> Any:
    text = _read(path)
    if path.suffix.casefold() == ".csv":
        try:
            return list(csv.DictReader(io.StringIO(text)))
        except csv.Error as error:
            raise RefusedError(f"{path} cannot be read as CSV ({error}).") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError(f"{path} is not JSON; a CSV file must end with .csv.") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise RefusedError(f"{path} has more than {MOST_BYTES >> 20} MiB.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise RefusedError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise RefusedError(f"{path} is not text in UTF-8.") from None


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value in (None, ""):
        raise RefusedError(f"{where} lacks {key}.")
    return str(value)


def _is_number(value: Any) -> bool:
    # Of ASCII digits only: isdigit() takes a superscript too, which int() refuses.
    text = str(value)
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _flag(row: Mapping[str, Any], key: str) -> bool:
    return str(row.get(key) or "").casefold() in {"true", "1", "yes"}


def read_moment(text: str, day: date, zone: ZoneInfo) -> int:
    """Read a time: ISO 8601 with or without an offset, or a local time of the day such as `08:45`.

    Raises:
        ValueError: it is neither.
    """
    if "T" not in text and " " not in text and ":" in text:
        return to_ms(local_moment(day, time.fromisoformat(text), zone))
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return to_ms(local_moment(moment.date(), moment.time(), zone))
    return to_ms(moment.astimezone(UTC))


def _moment(value: Any, where: str, day: date, zone: ZoneInfo) -> int:
    try:
        return read_moment(str(value), day, zone)
    except (ValueError, OverflowError):
        raise RefusedError(f'{where} has no usable time; write such as "2026-11-20T08:41:00Z" or "08:41".') from None


def explain(
    people: Mapping[str, Person],
    mis: Register | None,
    settings: RegisterSettings,
    day: date,
    zone: ZoneInfo,
    calendar: Calendar,
    now_ms: int | None,
) -> list[dict[str, Any]]:
    """Return what is proposed for each person and session, and what would become of it.

    Args:
        mis: None where the MIS cannot be read.
        now_ms: None for the end of the day.
    """
    marks = []
    for key in sorted(people):
        person = people[key]
        of_day = school_day(settings, day, zone, person.year, calendar)
        at_ms = of_day.ends_ms - 1 if now_ms is None else now_ms
        marks += _marks(key, person, of_day, mis, settings, day, from_ms(at_ms, zone).date(), at_ms)
    return marks


def _marks(
    key: str,
    person: Person,
    of_day: SchoolDay,
    mis: Register | None,
    settings: RegisterSettings,
    day: date,
    today: date,
    now_ms: int,
) -> list[dict[str, Any]]:
    if not of_day.sessions:
        lost = [
            item for item in person.movements if item.action is not None and (item.action.code or item.action.codes)
        ]
        codes = [(item, item.action.code if item.action else None) for item in lost]
        return [_row(key, Proposal("", code, evidence=(item.key,)), "hold", "no_session") for item, code in codes]
    reading = None
    if mis is not None:
        codes_now = {session: mark.code for (owner, session), mark in mis.marks.items() if owner == key}
        reading = Reading(now_ms if mis.read_ms is None else mis.read_ms, codes_now)
    on_roll = None if mis is None or mis.on_roll is None else key in mis.on_roll
    terms = Terms(day, today, mis is not None, settings.write_blind, on_roll, mis.codes if mis else None)
    rows = []
    for proposal in derive(person.movements, of_day, settings, reading, now_ms):
        found = decide(proposal, mis.marks.get((key, proposal.session)) if mis else None, terms)
        rows.append(_row(key, proposal, found.verdict if found else None, found.why if found else None))
    return rows


def _row(key: str, proposal: Proposal, verdict: str | None, why: str | None) -> dict[str, Any]:
    return {
        "person_key": key,
        "session": proposal.session or None,
        "code": proposal.code,
        "minutes_late": proposal.minutes_late,
        "comment": proposal.comment,
        "state": _STATES.get(verdict or ""),
        "verdict": verdict,
        "why": why,
        "evidence": list(proposal.evidence),
    }
