from __future__ import annotations

from typing import Any

import pytest

from gateway.access.event import Event, encode_event
from gateway.hub.web.what import say_what


def _raw(kind: Any, **fields: Any) -> bytes:
    at = "2026-11-22T08:31:04.123Z"
    return encode_event(
        Event(gw="gw", epoch="5f1c9a02", seq=1, boot=1, at=at, clock="ntp", up=1.0, kind=kind, **fields)
    )


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("movement", {"movement": {"direction": "out"}}, "signed out"),
        ("door", {"door": {"state": "held_open", "cause": "held_too_long"}}, "door held open"),
        ("door", {"door": {"state": "unlocked", "cause": "rex"}}, "door unlocked by the exit button"),
        ("reader", {"reader": "lane-1", "data": {"state": "offline"}}, "reader lane-1 offline"),
        (
            "reader",
            {"reader": "front-door", "data": {"state": "suspicion", "sign": "gen2_ats", "tail": "00A3"}},
            "front-door: a card ending ..00A3 looks like a copy: it answers like a rewritable card",
        ),
        (
            "reader",
            {"reader": "front-door", "data": {"state": "suspicion", "sign": "a_later_sign", "tail": "00A3"}},
            "front-door: a card ending ..00A3 looks like a copy: a later sign",
        ),
        ("reader", {"reader": "gate", "data": {"state": "tamper_ended", "detail": "."}}, "reader gate tamper ended"),
        ("reader", {"reader": "gate", "data": {"state": "input_1_on", "detail": "."}}, "reader gate input 1 on"),
        ("system", {"system": {"what": "started"}}, "gateway started"),
        ("system", {"system": {"what": "something_new"}}, "something new"),
        ("system", {"system": {"what": "events_refused", "count": 12}}, "12 events could not be recorded"),
        ("clock", {"data": {"synchronised": True}}, "clock set"),
        ("movement", {}, "movement"),
        ("tap", {}, ""),
    ],
)
def test_every_kind_is_said_in_words(kind: str, fields: dict[str, Any], words: str) -> None:
    assert say_what(kind, _raw(kind, **fields)) == words


def test_an_event_that_cannot_be_read_is_its_kind() -> None:
    assert say_what("door", b"\xff") == "door"
