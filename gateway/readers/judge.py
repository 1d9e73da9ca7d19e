"""Turns a number into an event: which presentations can identify a person."""

from __future__ import annotations

from gateway.access.rules import Reason
from gateway.cards.encodings import decode
from gateway.cards.identity import KINDS, CardNumber
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.cards.uid import Uid
from gateway.errors import BadCardNumber
from gateway.readers.base import CardRead, CardRefused

RANDOM_DETAIL = "The card shows a new random number at every tap, as phones do; it cannot identify a person."


def judge_number(reader: str, number: CardNumber, kind: str, seen_ns: int) -> CardRead | CardRefused:
    if number.is_random:
        return CardRefused(reader, Reason.CARD_RANDOM_UID, RANDOM_DETAIL, seen_ns)
    return CardRead(reader, number, kind, seen_ns)


def judge_uid(reader: str, raw: bytes, kind: str, seen_ns: int) -> CardRead | CardRefused:
    """Judge the UID of an ISO/IEC 14443 type A card, without cascade tags and check bytes."""
    try:
        number = CardNumber.of_uid(Uid(raw))
    except BadCardNumber as error:
        return CardRefused(reader, Reason.CARD_FORMAT, str(error), seen_ns)
    return judge_number(reader, number, kind, seen_ns)


def judge_text(reader: str, text: str, encoding: str, seen_ns: int, *, technology: str = "") -> CardRead | CardRefused:
    """Judge a printed number.

    Args:
        technology: of the cards, one of cards.identity.TECHNOLOGIES; empty leaves it to the encoding.
    """
    try:
        number = decode(text, encoding, technology)
    except BadCardNumber as error:
        return CardRefused(reader, Reason.CARD_FORMAT, str(error), seen_ns)
    # A name in KINDS is a kind of card; the others are forms of printed numbers.
    kind = number.projection if number.projection in KINDS else UNKNOWN_TYPE
    return judge_number(reader, number, kind, seen_ns)
