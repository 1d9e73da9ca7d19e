"""Describes events for the logbook."""

from __future__ import annotations

from typing import Any

from gateway.access.event import Event, decode_event
from gateway.access.suspicion import read_suspicion
from gateway.cards.clones import Sign
from gateway.errors import BadMessage

_MOVEMENTS = {"in": "signed in", "out": "signed out"}
_SYSTEM = {
    "started": "gateway started",
    "stopped": "gateway stopped",
    "checkpoint": "signed checkpoint",
    "output_failed": "output failed",
    "web_failed": "pages failed to start",
}
_SIGNS: dict[str, str] = {
    Sign.BACKDOOR: "it accepts a backdoor command",
    Sign.STATIC_NONCE: "static nonce, which some cheap genuine cards have too",
    Sign.IMPOSSIBLE_ANSWER: "no genuine card answers like this",
    Sign.GEN2_ATS: "it answers like a rewritable card",
}


def say_what(kind: str, raw: bytes) -> str:
    """Return a description of an event other than a tap; its kind when there is nothing to add."""
    if kind == "tap":
        return ""
    try:
        event = decode_event(raw)
    except BadMessage:
        return kind
    return _SAYERS[event.kind](event) or event.kind


def _movement(event: Event) -> str:
    data = event.movement if isinstance(event.movement, dict) else {}
    return _MOVEMENTS.get(str(data.get("direction")), "")


def _door(event: Event) -> str:
    data = event.door if isinstance(event.door, dict) else {}
    cause = " by the exit button" if data.get("cause") == "rex" else ""
    return f"door {_words(data.get('state'))}{cause}" if data.get("state") else ""


def say_suspicion(reader: str, tail: str | None, sign: str) -> str:
    """Return one sentence saying that a card, named by its tail, looks like a copy."""
    card = f"a card ending ..{tail}" if tail else "a card"
    return f"{reader}: {card} looks like a copy: {_SIGNS.get(sign) or _words(sign)}"


def say_two_places(point: str, other_point: str, tail: str | None) -> str:
    """Return one sentence saying that a card was used at two points at once."""
    card = f"a card ending ..{tail}" if tail else "a card"
    return f"{point} and {other_point}: {card} was let in at both within two seconds; one of them is a copy"


def _reader(event: Event) -> str:
    data = event.data if isinstance(event.data, dict) else {}
    name = event.reader if isinstance(event.reader, str) else ""
    suspicion = read_suspicion(event)
    if suspicion:
        return say_suspicion(name, suspicion.tail, suspicion.sign)
    return f"reader {name} {_words(data.get('state'))}" if data.get("state") else ""


def _system(event: Event) -> str:
    data = event.system if isinstance(event.system, dict) else {}
    what = str(data.get("what", ""))
    if what == "events_refused":
        return f"{data.get('count')} events could not be recorded"
    if what == "tap_not_served":
        return "this tap was not served: it could not be recorded in time"
    return _SYSTEM.get(what, _words(what))


def _clock(event: Event) -> str:
    data = event.data if isinstance(event.data, dict) else {}
    return "clock set" if data.get("synchronised") else "clock not set yet"


def _words(text: Any) -> str:
    return str(text or "").replace("_", " ")


_SAYERS = {
    "tap": lambda _event: "",
    "sale": lambda _event: "sale",
    "movement": _movement,
    "door": _door,
    "reader": _reader,
    "system": _system,
    "clock": _clock,
}
