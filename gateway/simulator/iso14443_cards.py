"""Cards in a radio field: the ISO/IEC 14443-3 type A states, bit for bit.

A frame is a pair (value, bits): the bits without parity, the first one sent in bit 0. Cards that answer at the same
time are laid over each other; where their bits differ there is a collision.
"""

from __future__ import annotations

import enum
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.cards.iso14443 import (
    HLTA,
    REQA,
    SAK_UID_INCOMPLETE,
    SEL_CODES,
    WUPA,
    bcc,
    cascade_levels,
    has_good_crc,
    with_crc,
)

RadioFrame = tuple[int, int]


def radio_frame(data: bytes, last_bits: int = 0) -> RadioFrame:
    bits = len(data) * 8 - (8 - last_bits if last_bits else 0)
    return int.from_bytes(data, "little") & (1 << bits) - 1, bits


class State(enum.Enum):
    """ISO/IEC 14443-3 section 6.2; a card that fell back from ACTIVE after a HALT goes there again."""

    IDLE = "idle"
    READY = "ready"
    ACTIVE = "active"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class CardType:
    """The radio properties of one kind of card.

    Attributes:
        atqa: as sent, low byte first.
    """

    name: str
    atqa: bytes
    sak: int


CLASSIC_1K = CardType("mifare-classic-1k", bytes.fromhex("0400"), 0x08)
CLASSIC_1K_7 = CardType("mifare-classic-1k", bytes.fromhex("4400"), 0x08)
CLASSIC_4K = CardType("mifare-classic-4k", bytes.fromhex("0200"), 0x18)
NTAG = CardType("ntag", bytes.fromhex("4400"), 0x00)
DESFIRE = CardType("desfire", bytes.fromhex("4403"), 0x20)
PHONE = CardType("iso14443-4", bytes.fromhex("0400"), 0x20)


class Card:
    """One card.

    Args:
        uid: 4, 7 or 10 bytes; None draws a random UID (08 and three bytes) at every entry into a field, as phones do.
        power_up_us: how long the card needs in the field before it answers; the standard allows 5000.

    Attributes:
        working_us: how long it worked on the command that it answered last.
    """

    def __init__(self, kind: CardType, uid: bytes | None, power_up_us: int = 0) -> None:
        self.kind = kind
        self.power_up_us = power_up_us
        self.working_us = 0
        self.state = State.IDLE
        self.encrypted = False
        self._random = uid is None
        self.uid = uid if uid is not None else b""
        self._levels = cascade_levels(uid) if uid is not None else ()
        self._level = 0
        self._rest = State.IDLE

    def power_on(self) -> None:
        """Enter a field."""
        self.state = self._rest = State.IDLE
        if self._random:
            self.uid = b"\x08" + secrets.token_bytes(3)
            self._levels = cascade_levels(self.uid)

    def receive(self, frame: RadioFrame) -> RadioFrame | None:
        """Take a frame; None is silence."""
        value, bits = frame
        if bits == 7:
            return self._request(value)
        if self.state is State.READY:
            return self._anticollision(value, bits)
        if self.state is State.ACTIVE:
            return self._active(value, bits)
        return None

    def _request(self, value: int) -> RadioFrame | None:
        if self.state in {State.READY, State.ACTIVE}:
            self.fall_back()
            return None
        if value == WUPA or (value == REQA and self.state is State.IDLE):
            self._rest = self.state
            self.state = State.READY
            self._level = 0
            return radio_frame(self.kind.atqa)
        return None

    def _anticollision(self, value: int, bits: int) -> RadioFrame | None:
        nvb = value >> 8 & 0xFF
        known_bits = ((nvb >> 4) - 2) * 8 + (nvb & 0x0F)
        if value & 0xFF != SEL_CODES[self._level] or known_bits < 0:
            self.fall_back()
            return None
        part = self._levels[self._level]
        answer = int.from_bytes(part + bytes([bcc(part)]), "little")
        if nvb == 0x70:
            return self._select(value, bits, answer)
        if known_bits >= 40 or bits != 16 + known_bits:
            self.fall_back()
            return None
        if (value >> 16 ^ answer) & (1 << known_bits) - 1:
            return None
        return answer >> known_bits, 40 - known_bits

    def _select(self, value: int, bits: int, answer: int) -> RadioFrame | None:
        data = value.to_bytes(bits + 7 >> 3, "little")
        if bits != 72 or not has_good_crc(data) or int.from_bytes(data[2:7], "little") != answer:
            self.fall_back()
            return None
        if self._level + 1 < len(self._levels):
            self._level += 1
            return radio_frame(with_crc(bytes([SAK_UID_INCOMPLETE])))
        self.state = State.ACTIVE
        self.activated()
        return radio_frame(with_crc(bytes([self.kind.sak])))

    def _active(self, value: int, bits: int) -> RadioFrame | None:
        if bits % 8:
            self.fall_back()
            return None
        data = value.to_bytes(bits >> 3, "little")
        if data == with_crc(HLTA):
            self.state = self._rest = State.HALT
            self.encrypted = False
            return None
        answer = self.command(data)
        if answer is None:
            self.fall_back()
        return answer

    def activated(self) -> None:
        """Start a card's own protocol; a plain card has none."""

    def authenticate(self, kind: int, block: int, key: bytes, uid_part: bytes) -> bool:
        """Answer MFAuthent; a card without a cipher does not understand it."""
        del kind, block, key, uid_part
        self.fall_back()
        return False

    def command(self, data: bytes) -> RadioFrame | None:
        """Answer a frame in ACTIVE; None sends the card back to where it came from."""
        del data
        return None

    def fall_back(self) -> None:
        """Leave READY or ACTIVE for where the card came from."""
        self.state = self._rest
        self.encrypted = False

    def __repr__(self) -> str:
        return f"Card({self.kind.name}, {len(self.uid)} bytes, {self.state.value})"


def classic_1k(uid: bytes) -> Card:
    return Card(CLASSIC_1K if len(uid) == 4 else CLASSIC_1K_7, uid)


def classic_4k(uid: bytes) -> Card:
    return Card(CLASSIC_4K, uid)


def ntag(uid: bytes) -> Card:
    return Card(NTAG, uid)


def desfire(uid: bytes) -> Card:
    return Card(DESFIRE, uid)


def phone() -> Card:
    """Return a card with a random UID."""
    return Card(PHONE, None)


@dataclass(frozen=True, slots=True)
class FieldAnswer:
    """The answers of all cards laid over each other.

    Attributes:
        collision: first bit in which they differ, None when all agree; bits from there on are zero.
        cards: who answered.
        garbled: whether the parity shows that another field disturbed it.
        working_us: how long the slowest of them worked on it.
    """

    value: int
    bits: int
    collision: int | None
    cards: tuple[Card, ...]
    garbled: bool = False
    working_us: int = 0


class Field:
    """The radio field of one antenna; cards come and go from any thread, the chip asks from its own.

    A neighbour that is too close (`couple`) spoils frames while both carriers are on: half of the requests are
    not understood, and every answer arrives with wrong bits, half of the time without a parity error to show it.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._cards: tuple[tuple[Card, int], ...] = ()
        self._lock = threading.Lock()
        self._near: list[Field] = []
        self._chance = random.Random(522)
        self.powered = False

    @property
    def cards(self) -> tuple[Card, ...]:
        return tuple(card for card, _ in self._cards)

    def enter(self, card: Card) -> int:
        """Bring a card into the field; returns the clock's nanoseconds of that moment."""
        with self._lock:
            card.power_on()
            now_ns = self._now_ns()
            self._cards = (*self._cards, (card, now_ns + card.power_up_us * 1000))
            return now_ns

    def leave(self, card: Card | None = None) -> None:
        """Take one card out, or all."""
        with self._lock:
            self._cards = tuple(item for item in self._cards if card is not None and item[0] is not card)

    def couple(self, other: Field) -> None:
        """Put another antenna so close that two carriers disturb each other."""
        self._near.append(other)
        other._near.append(self)

    def holds(self, card: Card) -> bool:
        return any(item is card for item, _ in self._cards)

    def power(self, *, on: bool) -> None:
        """Switch the field; cards lose their state without it."""
        if on and not self.powered:
            for card, _ in self._cards:
                card.power_on()
        self.powered = on

    def authenticate(self, kind: int, block: int, key: bytes, uid_part: bytes) -> bool:
        """Run MFAuthent with the card in ACTIVE."""
        active = [card for card in self.cards if self.powered and card.state is State.ACTIVE]
        return any([card.authenticate(kind, block, key, uid_part) for card in active])  # noqa: C419  # each must hear it

    def ask(self, frame: RadioFrame, *, encrypted: bool = False) -> FieldAnswer | None:
        """Send one frame to all cards; one in a session takes only frames under its cipher, any other only plain."""
        cards = self._cards
        if not cards or not self.powered:
            return None
        disturbed = any(other.powered for other in self._near)
        if disturbed and self._chance.random() < 0.5:
            frame = (0, frame[1])
        now_ns = self._now_ns()
        answers = []
        working_us = 0
        for card, ready_ns in cards:
            if now_ns < ready_ns:
                continue
            if card.encrypted != encrypted and card.state is State.ACTIVE:
                card.fall_back()
                continue
            answer = card.receive(frame)
            if answer is not None:
                answers.append((card, answer))
                working_us = max(working_us, card.working_us)
        if not answers:
            return None
        value, bits = answers[0][1]
        collision: int | None = None
        for _, (other, other_bits) in answers[1:]:
            differ = value ^ other | (1 << bits ^ 1 << other_bits if bits != other_bits else 0)
            if differ:
                first = (differ & -differ).bit_length() - 1
                collision = first if collision is None else min(collision, first)
            bits = max(bits, other_bits)
        if collision is not None:
            value &= (1 << collision) - 1
        heard = FieldAnswer(value, bits, collision, tuple(card for card, _ in answers), working_us=working_us)
        return self._spoil(heard) if disturbed else heard

    def _spoil(self, answer: FieldAnswer) -> FieldAnswer:
        wrong = sum(1 << place for place in self._chance.sample(range(answer.bits), min(2, answer.bits)))
        return replace(answer, value=answer.value ^ wrong, garbled=self._chance.random() < 0.5)
