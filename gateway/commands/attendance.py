"""`tapgate attendance`: the marks that movements give.

`marks` shows those of a day at the hub, `mark` decides one by hand. `explain` is for setting a school up, and for
whoever wants to know why a mark is what it is: everything is read from files, nothing is stored or sent.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway.access.schedule import Calendar
from gateway.commands.hub import CONFIG
from gateway.config import HubSettings, SiteSettings
from gateway.errors import ConfigError, RefusedError
from gateway.hub.attendance.day import decide_mark, read_day
from gateway.hub.attendance.explain import explain, read_moment, read_movements, read_register
from gateway.hub.directory.cards import by_hand
from gateway.hub.settings import look_at_store, prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.privileges import user_name

GOOD, FINDINGS = 0, 1
_ACTIONS = {
    "marks": "list the marks of a day as movements and the office say them; exit 1 when one waits for a decision",
    "mark": "decide one mark by hand, over what the movements say",
    "explain": "derive marks from files; exit 1 when one is held",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    parser.add_argument("action", choices=tuple(_ACTIONS), help=words)
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"hub.toml (default {CONFIG})")
    parser.add_argument("--site", metavar="ID", help="needed where hub.toml has several")
    parser.add_argument("--day", required=True, metavar="D", help="the day, such as 2026-11-20")
    parser.add_argument(
        "--movements",
        type=Path,
        metavar="FILE",
        help="explain: JSON or CSV: person_key, at, direction or action; kind, code, year, at_error_ms, automatic, "
        "copied",
    )
    parser.add_argument(
        "--mis",
        type=Path,
        metavar="FILE",
        help="explain: the register as the MIS has it, JSON or CSV: person_key, session, code, minutes_late, comment, "
        "ours",
    )
    parser.add_argument(
        "--now", metavar="T", help="explain: a time of that day such as 10:00, or ISO 8601 (default: its end)"
    )
    parser.add_argument("--person-key", metavar="K", help="mark: the pupil's id")
    parser.add_argument("--session", metavar="S", help="mark: AM, PM or DAY")
    parser.add_argument("--code", metavar="C", help="mark: such as L; none for no mark, movements to withdraw")
    parser.add_argument("--minutes", type=int, metavar="N", help="mark: minutes late")
    parser.add_argument("--reason", default="", metavar="TEXT", help="mark: why; stands in the audit")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    settings = read_settings(arguments.config)
    site = _site(settings.sites, arguments.site)
    try:
        day = date.fromisoformat(arguments.day)
    except ValueError:
        raise ConfigError(["attendance:0: --day: must be a day such as 2026-11-20."]) from None
    needed = {"explain": ("movements",), "mark": ("person_key", "session", "code"), "marks": ()}[arguments.action]
    for name in needed:
        if getattr(arguments, name) is None:
            raise ConfigError([f"attendance:0: --{name.replace('_', '-')}: is needed for {arguments.action}."])
    match arguments.action:
        case "explain":
            return _explain(arguments, site, day)
        case "mark":
            return _mark(arguments, settings, site, day)
        case _:
            return _list(arguments, settings, site, day)


def _list(arguments: argparse.Namespace, settings: HubSettings, site: SiteSettings, day: date) -> int:
    with look_at_store(settings) as store, store.read() as connection:
        found = read_day(connection, site.id, day, now_ms())
    marks: list[dict[str, Any]] = [
        {
            "person_key": mark.person_key,
            "session": mark.session,
            "code": mark.code,
            "minutes_late": mark.minutes_late,
            "comment": mark.comment,
            "state": mark.state,
            "verdict": "hold" if mark.state == "held" else None,
            "why": mark.hold if mark.state == "held" else None,
            "evidence": [f"{item.direction} {item.at.isoformat()} {item.point}".strip() for item in mark.evidence],
        }
        for mark in found.marks
    ]
    if not found.sessions:
        print(f"No register is taken at {site.id} on {day}: look at [[site.session]] and the holidays in hub.toml.")
    for mark in marks:
        print(f"{mark['person_key']} {mark['session']}: {_words(mark)}: {mark['state']} {mark['why'] or ''}".rstrip())
    if arguments.json:
        print(json.dumps({"site": site.id, "day": arguments.day, "marks": marks}))
    return FINDINGS if any(mark["state"] == "held" for mark in marks) else GOOD


def _mark(arguments: argparse.Namespace, settings: HubSettings, site: SiteSettings, day: date) -> int:
    code = arguments.code.strip()
    decision = None if code == "movements" else (None if code in {"", "none"} else code, arguments.minutes)
    store = prepare_store(settings, follow=False)
    try:
        with store.write() as connection:
            person = tables.person.c
            query = select(person.ref).where(
                person.site == site.id, person.person_key == arguments.person_key, person.role == "student"
            )
            ref = connection.scalars(query).first()
            if ref is None:
                raise RefusedError(f"There is no pupil with the id {arguments.person_key!r} at {site.id}.")
            audit = Audit(by_hand(user_name()), site.id, now_ms(), reason=arguments.reason.strip() or None)
            decide_mark(connection, site.id, ref, day, arguments.session, decision, audit)
            audit.write(connection)
    finally:
        store.close()
    print("Decided." if decision is not None else "Withdrawn: the movements count again.")
    return GOOD


def _explain(arguments: argparse.Namespace, site: SiteSettings, day: date) -> int:
    """Derive and decide, and print a line for each session that something is said about."""
    now_ms = None
    if arguments.now is not None:
        try:
            now_ms = read_moment(arguments.now, day, site.timezone)
        except (ValueError, OverflowError):
            raise ConfigError(["attendance:0: --now: must be such as 10:00 or 2026-11-20T10:00:00Z."]) from None
    people = read_movements(arguments.movements, site.register, day, site.timezone)
    mis = None if arguments.mis is None else read_register(arguments.mis, day, site.timezone)
    marks = explain(people, mis, site.register, day, site.timezone, Calendar(site.holidays), now_ms)
    if not site.register.sessions:
        print(f"The site {site.id} has no [[site.session]] in hub.toml, so that no time belongs to a register.")
    for mark in marks:
        fate = " ".join(word for word in (mark["verdict"], mark["why"]) if word) or "nothing to write"
        print(f"{mark['person_key']} {mark['session'] or 'no session'}: {_words(mark)}: {fate}")
    if arguments.json:
        print(json.dumps({"site": site.id, "day": arguments.day, "marks": marks}))
    return FINDINGS if any(mark["verdict"] == "hold" for mark in marks) else GOOD


def _words(mark: dict[str, Any]) -> str:
    late = f", {mark['minutes_late']} min" if mark["minutes_late"] else ""
    return f"{mark['code']}{late}" if mark["code"] else "no mark"


def _site(sites: tuple[SiteSettings, ...], name: str | None) -> SiteSettings:
    found = [site for site in sites if name is None or site.id == name]
    if len(found) != 1:
        known = ", ".join(site.id for site in sites)
        raise ConfigError([f"attendance:0: --site: must be one of {known}."])
    return found[0]
