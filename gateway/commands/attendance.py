"""`tapgate attendance explain`: which marks some movements would give, and which of them may be written.

For setting a school up, and for whoever wants to know why a mark is what it is: everything is read from files, nothing
is stored or sent.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path

from gateway.access.schedule import Calendar
from gateway.commands.hub import CONFIG
from gateway.config import SiteSettings
from gateway.errors import ConfigError
from gateway.hub.attendance.explain import explain, read_moment, read_movements, read_register
from gateway.hub.settings import read_settings

GOOD, FINDINGS = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("explain",), help="derive marks from files; exit 1 when one is held")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"hub.toml (default {CONFIG})")
    parser.add_argument("--site", metavar="ID", help="needed where hub.toml has several")
    parser.add_argument("--day", required=True, metavar="D", help="the day, such as 2026-11-20")
    parser.add_argument(
        "--movements",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON or CSV: person_key, at, direction or action; kind, code, year, at_error_ms, automatic, copied",
    )
    parser.add_argument(
        "--mis",
        type=Path,
        metavar="FILE",
        help="the register as the MIS has it, JSON or CSV: person_key, session, code, minutes_late, comment, ours",
    )
    parser.add_argument("--now", metavar="T", help="a time of that day such as 10:00, or ISO 8601 (default: its end)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Derive and decide, and print a line for each session that something is said about."""
    site = _site(read_settings(arguments.config).sites, arguments.site)
    try:
        day = date.fromisoformat(arguments.day)
    except ValueError:
        raise ConfigError(["attendance:0: --day: must be a day such as 2026-11-20."]) from None
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
        late = f", {mark['minutes_late']} min" if mark["minutes_late"] else ""
        code = f"{mark['code']}{late}" if mark["code"] else "no mark"
        fate = " ".join(word for word in (mark["verdict"], mark["why"]) if word) or "nothing to write"
        print(f"{mark['person_key']} {mark['session'] or 'no session'}: {code}: {fate}")
    if arguments.json:
        print(json.dumps({"site": site.id, "day": arguments.day, "marks": marks}))
    return FINDINGS if any(mark["verdict"] == "hold" for mark in marks) else GOOD


def _site(sites: tuple[SiteSettings, ...], name: str | None) -> SiteSettings:
    found = [site for site in sites if name is None or site.id == name]
    if len(found) != 1:
        known = ", ".join(site.id for site in sites)
        raise ConfigError([f"attendance:0: --site: must be one of {known}."])
    return found[0]
