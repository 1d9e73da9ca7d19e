"""Which way leads to which school system: the table behind `tapgate mis routes`.

A partner that many systems share is recommended before a route of our own: it watches the connection, and there is less
to fail at the school. What a school's system can do is asked from the source itself, never taken from its name.
"""

from __future__ import annotations

from dataclasses import dataclass

_PARTNER = "the partner watches the connection and nothing runs at the school"
_DIRECT = "the system has an interface of its own, and nothing runs at the school"
_FILE = "works with every system, and somebody or something has to export"
_DATABASE = "works where a database view can be made; the agent reads it where the hub cannot"


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a system: the kind of source in hub.toml, and why one would take it."""

    kind: str
    why: str


_WONDE = ("WCBS", "Bromcom", "SIMS", "Engage", "SchoolBase", "ScholarPack", "RM Integris", "Arbor", "Synergetic")
_GG4L = ("TASS", "PowerSchool", "InResonance", "Schoology", "RenWeb", "Veracross")
_ANY = (Route("csv", _FILE), Route("sql", _DATABASE), Route("agent", _DATABASE))
SYSTEMS: dict[str, tuple[Route, ...]] = {
    "ManageBac": (Route("managebac", _DIRECT), *_ANY[:1]),
    "iSAMS": (Route("isams", _DIRECT), Route("wonde", _PARTNER), *_ANY[:1]),
    **{name: (Route("wonde", _PARTNER), *_ANY) for name in _WONDE},
    **{name: (Route("gg4l", _PARTNER), Route("oneroster", _DIRECT), *_ANY) for name in _GG4L},
}
# Other spellings that schools use.
_ALSO = {"furlong": "SchoolBase", "integris": "RM Integris", "facts": "RenWeb", "capita sims": "SIMS"}


def routes_to(system: str) -> tuple[str, tuple[Route, ...]]:
    """Return the usual name of a system and the ways to it, the recommended one first."""
    word = "".join(letter for letter in system.casefold() if letter.isalnum())
    for name, routes in SYSTEMS.items():
        if word == "".join(letter for letter in name.casefold() if letter.isalnum()):
            return name, routes
    for spelling, name in _ALSO.items():
        if word == spelling.replace(" ", ""):
            return name, SYSTEMS[name]
    return system, (Route("oneroster", "many systems export or serve it"), Route("oneroster-csv", _FILE), *_ANY)
