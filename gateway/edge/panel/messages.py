"""What crosses the socket: a question from the pages, a fact from the daemon; MessagePack after a length of four bytes.

The first fact is a Welcome. Every other fact either answers a question by its number or is pushed (Tapped, Shown,
Changed). A question that changes something carries the caller and a key: a repeated key is answered but not carried out
again.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.edge.health import GatewayView, TapRow
from gateway.edge.teaching import Lesson
from gateway.points.actions import Show

VERSION = 2
MAX_QUESTION_BYTES = 16 << 10
MAX_FACT_BYTES = 4 << 20
MAX_ROWS = 500

_Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Name = Annotated[str, msgspec.Meta(max_length=255)]


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Ask for the state of the gateway."""

    id: _Number


class After(msgspec.Struct, frozen=True, tag="after"):
    """Ask for the events recorded after a number."""

    id: _Number
    seq: _Number
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)]


class Identify(msgspec.Struct, frozen=True, tag="identify"):
    """Let a reader blink or beep."""

    id: _Number
    reader: _Name
    actor: _Name
    key: _Name


class Teach(msgspec.Struct, frozen=True, tag="teach"):
    """Open a teaching window at a reader, or close it (None)."""

    id: _Number
    reader: _Name | None
    actor: _Name
    key: _Name


class AskLesson(msgspec.Struct, frozen=True, tag="lesson"):
    """Ask for what the teaching page shows."""

    id: _Number


class Choose(msgspec.Struct, frozen=True, tag="choose"):
    """Replace the movement on a kiosk's screen by what the person chose there (see points.kiosk)."""

    id: _Number
    point: _Name
    shown: _Name
    option: _Name
    key: _Name


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """Report the address at which the pages listen, or why they cannot."""

    id: _Number
    address: _Name
    fault: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


Question = Look | After | Identify | Teach | AskLesson | Choose | Serving


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The gateway's identity and what its pages are built from.

    Attributes:
        points: id and kind of each.
        names: further host names that the pages answer to.
        certificate: files of the pages' certificate and its key, None for plain HTTP.
    """

    version: int
    gateway: str
    site: str
    epoch: str
    host: str
    port: int
    points: tuple[tuple[str, str], ...]
    readers: tuple[str, ...]
    names: tuple[str, ...] = ()
    certificate: tuple[str, str] | None = None


class Snapshot(msgspec.Struct, frozen=True, tag="seen"):
    """The gateway at one moment.

    Attributes:
        taps: the newest first.
        oldest: the first number that the journal may still hold.
        till_token: SHA-256 of the token of the tills in hex, None where none is set, empty where its file cannot be
            read.
    """

    id: int
    view: GatewayView
    taps: tuple[TapRow, ...]
    oldest: int
    till_token: str | None


class Rows(msgspec.Struct, frozen=True, tag="rows"):
    """Recorded events by number, as stored."""

    id: int
    rows: tuple[tuple[int, bytes], ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Whether the request was carried out."""

    id: int
    ok: bool


class LessonNow(msgspec.Struct, frozen=True, tag="lesson_now"):
    """What the teaching page shows; it holds whole card numbers and stays in memory on both sides."""

    id: int
    lesson: Lesson


class Tapped(msgspec.Struct, frozen=True, tag="tapped"):
    """An event has become durable."""

    seq: int
    raw: bytes


class Shown(msgspec.Struct, frozen=True, tag="shown"):
    """A point shows a message to people."""

    show: Show


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """Something that the pages show has changed; also sent after facts were dropped for a slow listener."""


Fact = Welcome | Snapshot | Rows | Done | LessonNow | Tapped | Shown | Changed

encode = msgspec.msgpack.Encoder().encode
decode_question = msgspec.msgpack.Decoder(Question).decode
decode_fact = msgspec.msgpack.Decoder(Fact).decode
