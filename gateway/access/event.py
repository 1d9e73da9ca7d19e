"""The event format that is journaled, sent and ingested.

The bytes that are stored are the bytes that are sent: an event is encoded once, by the journal, and never again. The
form carries its version in `v`; samples of each version stay in tests/access/samples.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.errors import BadMessage

EVENT_VERSION = 1
FIRST_PREV = "0" * 32
# Begins the epoch of events that came from a gateway's memory, because its disk refused them.
MEMORY_EPOCH = "memory-"
MAX_EVENT_BYTES = 20 * 1024
_MAX_DEPTH = 8
_MAX_NUMBER = 1 << 53
_MAX_SECONDS = 1e10

_Name = Annotated[str, Meta(max_length=63)]
_Text = Annotated[str, Meta(max_length=1000)]
_Boot = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
_Count = Annotated[int, Meta(ge=0, le=_MAX_NUMBER)]
_Micros = Annotated[int, Meta(ge=-_MAX_NUMBER, le=_MAX_NUMBER)]
_Seconds = Annotated[float, Meta(ge=-_MAX_SECONDS, le=_MAX_SECONDS)]

Kind = Literal["tap", "sale", "movement", "door", "reader", "system", "clock"]
ClockQuality = Literal["ntp", "rtc", "free"]


class CardRef(msgspec.Struct, frozen=True):
    """A card in an event: `key` 32 hex digits, `tail` four hex digits, `type` such as `ntag`."""

    key: _Name
    tail: _Name
    type: _Name


class Was(msgspec.Struct, frozen=True):
    """The number an event had before it was written into another epoch: of an older journal, or of the memory."""

    epoch: _Name
    seq: _Count


class Event(msgspec.Struct, kw_only=True):
    """One event of a gateway.

    `epoch`, `seq` and `prev` are given by the journal at the moment of writing. `at` is UTC with milliseconds and `Z`;
    `up` is CLOCK_BOOTTIME in seconds. Fields that a kind does not use are absent, not null. Every kind but `tap` puts
    its content in the object of its own name. `was` stands in events that a new epoch took over.
    """

    v: int = EVENT_VERSION
    gw: _Name
    epoch: _Name = ""
    seq: _Count = 0
    boot: _Boot
    at: _Name
    clock: ClockQuality
    up: _Seconds
    kind: Kind
    point: _Name | UnsetType = UNSET
    reader: _Name | UnsetType = UNSET
    card: CardRef | None | UnsetType = UNSET
    person: _Name | None | UnsetType = UNSET
    decision: Literal["granted", "denied"] | UnsetType = UNSET
    reason: _Name | UnsetType = UNSET
    rule: _Text | None | UnsetType = UNSET
    roster: _Count | None | UnsetType = UNSET
    took_us: _Micros | UnsetType = UNSET
    sale: dict[str, Any] | UnsetType = UNSET
    movement: dict[str, Any] | UnsetType = UNSET
    door: dict[str, Any] | UnsetType = UNSET
    system: dict[str, Any] | UnsetType = UNSET
    # `clock` and `reader` are taken by the envelope, so these two kinds put their object under `data`.
    data: dict[str, Any] | UnsetType = UNSET
    prev: _Name = FIRST_PREV
    was: Was | UnsetType = UNSET


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Encode an event to the compact JSON that is stored, chained and sent."""
    return _ENCODER.encode(event)


def decode_event(raw: bytes) -> Event:
    """Decode and validate one event.

    Raises:
        BadMessage: not JSON, not an event, of a later version, or with a value out of range; quarantine the bytes.
    """
    if len(raw) > MAX_EVENT_BYTES:
        raise BadMessage(f"An event has at most {MAX_EVENT_BYTES} bytes; this one has {len(raw)}.")
    try:
        event = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"This is not an event of version {EVENT_VERSION}: {error}.") from None
    if event.v != EVENT_VERSION:
        raise BadMessage(f"This event has version {event.v}; this software reads version {EVENT_VERSION}.")
    if not event.gw or not event.epoch or event.seq < 1:
        raise BadMessage("An event needs a gateway, an epoch and a sequence number from 1.")
    for body in (event.sale, event.movement, event.door, event.system, event.data):
        if body is not UNSET and not _bounded(body, _MAX_DEPTH):
            raise BadMessage(f"A value in this {event.kind} event is out of range.")
    return event


def _bounded(value: Any, depth: int) -> bool:
    # The objects of the kinds have no fixed form, so check their numbers here for every later reader.
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_bounded(item, depth - 1) for item in inner)
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) <= _MAX_NUMBER
    return not isinstance(value, int) or abs(value) <= _MAX_NUMBER


def join_events(raws: list[bytes]) -> bytes:
    """Join encoded events to the JSON array of one message, each event's bytes untouched."""
    return b"[" + b",".join(raws) + b"]"


_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def split_events(payload: bytes) -> list[bytes]:
    """Split the JSON array of one message into the exact bytes of each event, without reading them.

    Raises:
        BadMessage: the payload is not a JSON array; quarantine it whole.
    """
    try:
        return [bytes(raw) for raw in _RAW_LIST.decode(payload)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"This is not a JSON array of events: {error}.") from None
