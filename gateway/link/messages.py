"""The messages that are not events: watermark, birth and will, hub state."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from gateway.errors import BadMessage


class Rejected(msgspec.Struct, frozen=True):
    """One event that the hub quarantined; it counts as committed."""

    seq: int
    why: str


class Watermark(msgspec.Struct, frozen=True):
    """What the hub has committed: everything up to `upto`, and the closed ranges in `have` above it."""

    epoch: str
    upto: int
    have: list[tuple[int, int]] = []
    rejected: list[Rejected] = []


class GatewayState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Birth (`ready`) and will (`lost`) of a gateway; a will whose boot is older than the birth is ignored.

    Attributes:
        key: the Ed25519 public key that signs this gateway's checkpoints, 64 hex digits; the hub pins the first one.
    """

    state: Literal["ready", "lost", "closed"]
    boot: int
    epoch: str = ""
    head: int = 0
    acked: int = 0
    software: str = ""
    roster: int | None = None
    key: str = ""


class HubState(msgspec.Struct, frozen=True):
    """Retained state of the hub; gateways hold their backlog while it is `lost`."""

    state: Literal["ready", "lost"]


class Command(msgspec.Struct, omit_defaults=True):
    """What the hub wants a gateway to do; response topic and correlation travel as MQTT 5 properties.

    Attributes:
        number: rises with each command to this gateway, so that an old one is never done again; 0 for the few that
            may be repeated (`replay`, `rebirth`).
        expires_at: UTC text; a gateway whose clock is set refuses the command after that.
    """

    name: str
    number: int = 0
    args: dict[str, Any] = {}
    expires_at: str | None = None


class Reply(msgspec.Struct, omit_defaults=True):
    """The answer to one command; `error` is one sentence when it was not done."""

    name: str
    number: int
    done: bool
    result: dict[str, Any] | None = None
    error: str | None = None


_Form = TypeVar("_Form", bound=msgspec.Struct)


def encode(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message)


def decode(payload: bytes, form: type[_Form]) -> _Form:
    """Decode one message.

    Raises:
        BadMessage: the payload is not of this form; quarantine its bytes.
    """
    try:
        return msgspec.json.decode(payload, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"This is not a {form.__name__}: {error}.") from None
