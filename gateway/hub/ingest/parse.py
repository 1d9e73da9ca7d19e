"""From one MQTT message to events and faults; never raises, never touches the database.

An event must have the agreed form and belong to the gateway whose topic it came on. Anything else becomes a Fault with
its bytes; where its epoch and sequence number can still be read, it counts in the watermark, so that one bad event
never blocks a gateway.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET

from gateway.access.event import Event, decode_event, split_events
from gateway.errors import BadMessage
from gateway.link.topics import parse_gateway_topic

MAX_SEQ = 1 << 53
_LAST_MS = 4_102_444_800_000  # 2100-01-01; later years overflow what reads them
_EPOCH = re.compile(r"[A-Za-z0-9_-]{1,63}")
_CARD_KEY = re.compile(r"[0-9a-f]{32}")
_PERSON = re.compile(r"p_[0-9a-f]{16}")
_EVENT_START = re.compile(rb'\{\s*"v"\s*:')
_CLAIM = re.compile(rb'"epoch"\s*:\s*"([A-Za-z0-9_-]{1,63})"\s*,\s*"seq"\s*:\s*([0-9]{1,18})\b')
_MILLISECOND = 1000


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as it arrived."""

    topic: str
    payload: bytes
    received_ms: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Bytes that are not an event of this gateway; `epoch` and `seq` are None where they cannot be read.

    Attributes:
        covers: whether the watermark counts the number. Not for an event of a forked history: its gateway must keep it.
    """

    payload: bytes
    why: str
    epoch: str | None = None
    seq: int | None = None
    covers: bool = True


@dataclass(slots=True)
class Reading:
    """The content of one message; `gateway` is None when its topic is not a gateway's.

    Attributes:
        copies: events that are held under another number already; the commit sorts them out.
    """

    incoming: Incoming
    site: str = ""
    gateway: str | None = None
    historical: bool = False
    events: list[tuple[Event, int, bytes]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    copies: list[tuple[Event, bytes]] = field(default_factory=list)


def of_known(readings: Sequence[Reading], known: Mapping[tuple[str, str], int]) -> Iterator[tuple[int, Reading]]:
    """Return each message of a known gateway with the gateway's number."""
    for reading in readings:
        if reading.gateway is not None and (number := known.get((reading.site, reading.gateway))) is not None:
            yield number, reading


class _Claim(msgspec.Struct):
    epoch: str
    seq: int


_CLAIMS = msgspec.json.Decoder(_Claim)


def read_message(incoming: Incoming) -> Reading:
    """Read one message; each event comes with its time in milliseconds and its exact bytes."""
    reading = Reading(incoming)
    topic = parse_gateway_topic(incoming.topic)
    if topic is None or topic[2] not in {"taps", "backlog"}:
        reading.faults.append(Fault(incoming.payload, "No gateway sends events on this topic."))
        return reading
    reading.site, reading.gateway, reading.historical = topic[0], topic[1], topic[2] == "backlog"
    try:
        raws = split_events(incoming.payload)
    except BadMessage as error:
        raws = _salvage(incoming.payload)
        if not raws:
            reading.faults.append(Fault(incoming.payload, str(error)))
    for raw in raws:
        try:
            event = decode_event(raw)
            at_ms = _check(event, reading.gateway)
        except BadMessage as error:
            epoch, seq = _claim(raw)
            reading.faults.append(Fault(raw, str(error), epoch, seq))
        else:
            reading.events.append((event, at_ms, raw))
    return reading


def _check(event: Event, gateway: str) -> int:
    if event.gw != gateway:
        raise BadMessage("This event names another gateway than its topic does.")
    if not _EPOCH.fullmatch(event.epoch) or event.seq > MAX_SEQ:
        raise BadMessage("This event's epoch or sequence number is not valid.")
    card, person = event.card, event.person
    if card and not (_CARD_KEY.fullmatch(card.key) and len(card.tail) <= 4):
        raise BadMessage("This event's card key is not 32 hex digits.")
    if person and not _PERSON.fullmatch(person):
        raise BadMessage("This event's person is not a reference issued by the hub.")
    for name in (event.point, event.reader, event.reason):
        if name is not UNSET and (len(name) > 63 or "\0" in name):
            raise BadMessage("A name in this event is longer than 63 characters or holds a zero byte.")
    try:
        at = datetime.fromisoformat(event.at)
    except ValueError:
        raise BadMessage("This event's time is not of the form 2026-11-22T08:31:04.123Z.") from None
    if at.tzinfo is not UTC and at.utcoffset() is None:
        raise BadMessage("This event's time is not marked as UTC.")
    at_ms = round(at.timestamp() * _MILLISECOND)
    if not 0 <= at_ms < _LAST_MS:
        raise BadMessage("This event's time lies outside the years 1970 to 2099.")
    return at_ms


def _claim(raw: bytes) -> tuple[str | None, int | None]:
    try:
        claim = _CLAIMS.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _CLAIM.search(raw)
        return (found[1].decode(), int(found[2])) if found else (None, None)
    if _EPOCH.fullmatch(claim.epoch) and 1 <= claim.seq <= MAX_SEQ:
        return claim.epoch, claim.seq
    return None, None


def _salvage(payload: bytes) -> list[bytes]:
    # The array is broken somewhere, but events that were whole when they were joined still start with their version.
    starts = [found.start() for found in _EVENT_START.finditer(payload)]
    decoder = json.JSONDecoder()
    pieces: list[bytes] = []
    for start, following in itertools.pairwise([*starts, len(payload)]):
        piece = payload[start:following]
        text = piece.decode("utf-8", "surrogateescape")
        try:
            _, length = decoder.raw_decode(text)
            pieces.append(text[:length].encode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            pieces.append(piece.rstrip(b", \n]"))
    return pieces
