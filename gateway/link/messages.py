"""The messages that are not events: watermark and welcome, birth and will, hub state, commands.

Fields that came later have defaults, and unknown ones are left alone: gateways and hubs of the release before read
these messages too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from gateway.errors import BadMessage

WELCOME_PURPOSE = b"tapgate welcome v1\0"
WATERMARK_PURPOSE = b"tapgate watermark v1\0"
PRESENCE_PURPOSE = b"tapgate presence v1\0"
MAX_LINKS = 64
MAX_WITNESSES = 64
MAX_MISSING = 32
MAX_TEXT = 1000
_MAX_RANGES = 1000

# Whatever another machine may write is bounded here, where it is read.
Seq = Annotated[int, Meta(ge=0, le=1 << 53)]
_Boot = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
_Millis = Annotated[int, Meta(ge=0, le=1 << 46)]
_Epoch = Annotated[str, Meta(max_length=63, pattern="^[A-Za-z0-9_-]*$")]
_Hex = Annotated[str, Meta(max_length=128, pattern="^[0-9a-f]*$")]
_Seal = Annotated[str, Meta(max_length=512, pattern="^[0-9a-f]*$")]
_Name = Annotated[str, Meta(max_length=63)]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]


class Rejected(msgspec.Struct, frozen=True):
    """One event that the hub quarantined; it counts as committed."""

    seq: Seq
    why: _Text


class Signed(msgspec.Struct, frozen=True):
    """A statement of the hub: `body` as it was signed, `seal` in hex (see roster.signing)."""

    body: Annotated[str, Meta(max_length=2000)]
    seal: _Seal


class Watermark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the hub has committed: everything up to `upto`, and the closed ranges in `have` above it.

    Attributes:
        link: what the event after `upto` carries as `prev`, 32 hex digits: a number alone does not say whose event the
            hub holds under it. Empty from a hub before 0.3, or where the hub does not know it.
        welcome: the hub's answer to a birth, a Welcome.
        seal: the hub's signature over all of this but `welcome`, see watermark_body; empty from a hub before 0.3.
    """

    epoch: _Epoch
    upto: Seq
    have: Annotated[list[tuple[Seq, Seq]], Meta(max_length=_MAX_RANGES)] = []
    rejected: Annotated[list[Rejected], Meta(max_length=_MAX_RANGES)] = []
    link: _Hex = ""
    welcome: Signed | None = None
    seal: _Seal = ""


class Welcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gateway may do with the journal that it named in its birth.

    Attributes:
        to: the witness of the birth that is answered.
        verdict: `go_on`; `fork`: begin a new epoch with every event after `at`, the last number that both share;
            `twin`: another machine uses this id, send nothing.
        at_ms: the hub's time, milliseconds since 1970.
        roster: the newest roster generation of the site.
        seals: the hub signs its watermarks too; the gateway believes no other from now on.
        others: for people: the boards that take turns under this id.
    """

    site: _Name
    gateway: _Name
    to: _Hex
    verdict: Literal["go_on", "fork", "twin"]
    epoch: _Epoch
    at: Seq = 0
    at_ms: _Millis = 0
    roster: Seq = 0
    others: Annotated[list[_Name], Meta(max_length=8)] = []
    seals: bool = False


class LinkPoint(msgspec.Struct, frozen=True, array_like=True):
    """One place of the hash chain: what event `seq` + 1 carries as `prev`."""

    seq: Seq
    link: _Hex


class GatewayState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Birth (`ready`) and will (`lost`) of a gateway; a will whose boot is older than the birth is ignored.

    Attributes:
        key: the Ed25519 public key that signs this gateway's checkpoints, 64 hex digits; the hub pins the first one.
        witness: 32 hex digits drawn for this boot; empty from a gateway before 0.3, which expects no welcome.
        before: the witnesses of the boots before, newest first; a copy of the card lacks those that came after it.
        links: the chain before the first event of each boot that is not wholly acknowledged, and a few places more.
        board: names the machine for people.
        challenge: 32 hex digits drawn for this boot, which a command must repeat.
        proof: the signed welcome with the highest `roster` that this gateway was given: the hub counts on from there
            after it lost its own count, and believes no other number.
    """

    state: Literal["ready", "lost", "closed"]
    boot: _Boot
    epoch: _Epoch = ""
    head: Seq = 0
    acked: Seq = 0
    software: _Name = ""
    roster: Seq | None = None
    key: _Hex = ""
    witness: _Hex = ""
    before: Annotated[list[_Hex], Meta(max_length=MAX_WITNESSES)] = []
    links: Annotated[list[LinkPoint], Meta(max_length=MAX_LINKS)] = []
    board: _Name = ""
    challenge: _Hex = ""
    proof: Signed | None = None


class Reported(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gateway says of itself, retained.

    Attributes:
        roster: the generation in force; `error` says in one sentence why it is not the newest.
        missing: what the gateway lacks on the broker, or found there damaged: `manifest`, or names of chunks. The hub
            sends the site's roster again; a hub before 0.3 does not read it.
        level: the verdict of its status page, with its sentence and what to do about it; empty from a gateway before
            0.3.
    """

    roster: Seq | None = None
    error: _Text | None = None
    missing: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=MAX_MISSING)] = []
    level: Literal["", "good", "unknown", "warn", "bad"] = ""
    sentence: _Text = ""
    remedy: _Text = ""


class SealedPresence(msgspec.Struct, frozen=True):
    """A Present as the hub signed it, retained for each site."""

    body: Annotated[str, Meta(max_length=4 << 20)]
    seal: _Seal


class Present(msgspec.Struct, frozen=True):
    """Who has signed in at a kiosk of a site today and not out.

    Attributes:
        day: the local day, such as 2026-11-20.
        people: references, never names.
        covered: for each gateway and epoch the number up to which its movements are in it.
    """

    site: _Name
    day: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    at_ms: _Millis
    people: Annotated[list[Annotated[str, Meta(pattern="^p_[0-9a-f]{16}$")]], Meta(max_length=100_000)]
    covered: Annotated[dict[_Name, dict[_Epoch, Seq]], Meta(max_length=10_000)] = {}


class HubState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Retained state of the hub; gateways hold their backlog while it is `lost`.

    Attributes:
        claim: who serves this broker, a HubClaim; None from a hub before 0.3, which answers no birth.
    """

    state: Literal["ready", "lost"]
    claim: Signed | None = None


class HubClaim(msgspec.Struct, frozen=True):
    """Which hub serves a broker; of two that both live, the one with the later `since_ms` stops.

    Attributes:
        instance: drawn once for a database: all workers of one hub share it.
        holder: drawn anew by each process that speaks for the hub, since `taken_ms`.
        site: whose key endorses the signature.
    """

    instance: _Hex
    holder: _Hex
    since_ms: _Millis
    site: _Name
    taken_ms: _Millis


class Command(msgspec.Struct, omit_defaults=True):
    """What the hub wants a gateway to do; response topic and correlation travel as MQTT 5 properties.

    Attributes:
        number: rises with each command to this gateway, so that an old one is never done again; 0 for the few that
            may be repeated (`replay`, `rebirth`).
        expires_at: UTC text; the command is refused after that, and while the gateway knows no time at all.
        challenge: that of the gateway's birth; only the few that may be repeated go without it.
    """

    name: _Name
    number: Seq = 0
    args: dict[str, Any] = {}
    expires_at: _Name | None = None
    challenge: _Hex = ""


class Reply(msgspec.Struct, omit_defaults=True):
    """The answer to one command; `error` is one sentence when it was not done."""

    name: _Name
    number: Seq
    done: bool
    result: dict[str, Any] | None = None
    error: _Text | None = None


_Form = TypeVar("_Form", bound=msgspec.Struct)


def watermark_body(site: str, gateway: str, mark: Watermark) -> str:
    """Return what the hub signs of a watermark: whose it is, and all of it but the welcome."""
    parts = [site, gateway, mark.epoch, mark.upto, mark.have, mark.rejected, mark.link]
    return msgspec.json.encode(parts).decode()


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
