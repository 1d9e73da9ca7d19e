"""The items of a read as lines of JSON, for a reader at the school that sends them to the hub.

A line is `["kind", {...}]` and ends with a newline. What arrives is bounded and checked field by field: it comes from
another machine. A card is its key and its tail, as everywhere outside a connector.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from gateway.errors import BadRecord
from gateway.mis.base import (
    LISTS,
    ROLES,
    CardClaim,
    Checkpoint,
    Complete,
    Ended,
    FeedItem,
    Gone,
    Notice,
    Record,
    Shape,
    Unreadable,
)
from gateway.mis.table import MAX_CARDS, MAX_NAME

MAX_LINE = 16 << 10
_MAX_TEXT = 1_000
_KINDS: dict[str, type[Any]] = {
    "record": Record,
    "gone": Gone,
    "unreadable": Unreadable,
    "notice": Notice,
    "shape": Shape,
    "checkpoint": Checkpoint,
    "complete": Complete,
    "ended": Ended,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_encode = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(tuple[str, msgspec.Raw]).decode
_decoders = {name: msgspec.json.Decoder(kind).decode for name, kind in _KINDS.items()}
_KEY = re.compile(r"[0-9a-f]{32}")
_TAIL = re.compile(r"[0-9A-Za-z]{0,4}")


def site_key_check(site_key: bytes) -> str:
    """Return a text by which two sides see whether they have the same site key; it tells nothing about the key."""
    # Card keys have another length of digest, so this is none of them.
    return hashlib.blake2b(b"check of the site key", key=site_key, digest_size=8).hexdigest()


def write_line(item: FeedItem) -> bytes:
    """Return an item as one line with its newline."""
    return _encode([_NAMES[type(item)], item]) + b"\n"


def read_line(line: bytes) -> FeedItem:
    """Return the item of one line.

    Raises:
        BadRecord: it is not one, or holds more than an item may.
    """
    if len(line) > MAX_LINE:
        raise BadRecord(f"A line may have at most {MAX_LINE} bytes.")
    try:
        name, raw = _split(line)
        if name not in _decoders:
            raise BadRecord("This release does not know such a line; update the hub.")
        item: FeedItem = _decoders[name](raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The library's own words may quote the line.
        raise BadRecord("This is not a line of a read.") from None
    if why := _fault(item):
        raise BadRecord(why)
    return item


def _fault(item: FeedItem) -> str | None:
    match item:
        case Record():
            return _record_fault(item)
        case Gone() if item.entity is not None and item.entity not in ROLES:
            return "There is no such role."
        case Checkpoint() | Complete() | Ended() if item.list not in LISTS:
            return "There is no such list."
        case Shape() if len(item.headings) > MAX_NAME:
            return "This names too many fields."
        case _:
            texts = (getattr(item, name) for name in type(item).__dataclass_fields__)
            return _text_fault(*(text for text in texts if isinstance(text, str)))


def _record_fault(item: Record) -> str | None:
    fields = item.fields
    if fields.role not in ROLES:
        return "There is no such role."
    if max(len(fields.given_name), len(fields.family_name)) > MAX_NAME:
        return f"A name may have at most {MAX_NAME} characters."
    cards = item.cards or ()
    if len(cards) > MAX_CARDS or not all(_is_card(card) for card in cards):
        return "A card in this line is none."
    return _text_fault(item.person_key, item.place, item.stable_id or "")


def _is_card(card: CardClaim) -> bool:
    is_short = len(card.projection) <= MAX_NAME
    return bool(_KEY.fullmatch(card.key)) and bool(_TAIL.fullmatch(card.tail)) and is_short


def _text_fault(*texts: str) -> str | None:
    if any(len(text) > _MAX_TEXT or "\x00" in text for text in texts):
        return f"A text may have at most {_MAX_TEXT} characters."
    return None
