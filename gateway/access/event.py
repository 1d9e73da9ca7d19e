"""The one form of an event: what is journaled, sent and ingested.

The bytes that are stored are the bytes that are sent: an event is encoded once, by the journal, and never again.
The form carries its version in `v`; samples of each version stay in tests/access/samples.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.errors import BadMessage

EVENT_VERSION = 1
FIRST_PREV = "0" * 32

Kind = Literal["tap", "sale", "movement", "door", "reader", "system", "clock"]
ClockQuality = Literal["ntp", "rtc", "free"]


class CardRef(msgspec.Struct, frozen=True):
    """How an event names a card: `key` 32 hex digits, `tail` four hex digits, `type` such as `ntag`."""

    key: str
    tail: str
    type: str


class Event(msgspec.Struct, kw_only=True):
    """One event of a gateway.

    `epoch`, `seq` and `prev` are given by the journal at the moment of writing. `at` is UTC with milliseconds and `Z`;
    `up` is CLOCK_BOOTTIME in seconds. Fields that a kind does not use are absent, not null. Every kind but `tap` puts
    what it has to say in the object of its own name.
    """

    v: int = EVENT_VERSION
    gw: str
    epoch: str = ""
    seq: int = 0
    boot: int
    at: str
    clock: ClockQuality
    up: float
    kind: Kind
    point: str | UnsetType = UNSET
    reader: str | UnsetType = UNSET
    card: CardRef | None | UnsetType = UNSET
    person: str | None | UnsetType = UNSET
    decision: Literal["granted", "denied"] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    rule: str | None | UnsetType = UNSET
    roster: int | None | UnsetType = UNSET
    took_us: int | UnsetType = UNSET
    sale: dict[str, Any] | UnsetType = UNSET
    movement: dict[str, Any] | UnsetType = UNSET
    door: dict[str, Any] | UnsetType = UNSET
    system: dict[str, Any] | UnsetType = UNSET
    # `clock` and `reader` are taken by the envelope, so these two kinds put their object under `data`.
    data: dict[str, Any] | UnsetType = UNSET
    prev: str = FIRST_PREV


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Encode an event to the compact JSON that is stored, chained and sent."""
    return _ENCODER.encode(event)


def decode_event(raw: bytes) -> Event:
    """Decode and validate one event.

    Raises:
        BadMessage: not JSON, not an event, or of a later version; quarantine the bytes.
    """
    try:
        event = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"This is not an event of version {EVENT_VERSION}: {error}.") from None
    if event.v != EVENT_VERSION:
        raise BadMessage(f"This event has version {event.v}; this software reads version {EVENT_VERSION}.")
    if not event.gw or not event.epoch or event.seq < 1:
        raise BadMessage("An event needs a gateway, an epoch and a sequence number from 1.")
    return event


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
