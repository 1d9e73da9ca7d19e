"""The mask for RC522: numbers in the SPI transfers, with their BCC and CRC_A."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cards.iso14443 import SEL_CODES, bcc, cascade_levels
from gateway.protocols.mfrc522 import Answer, Register, select_bytes, write
from gateway.readers.masking.numbers import CannotMask
from gateway.transports.trace import Record


def mask_rc522(records: Sequence[Record], pairs: Sequence[tuple[bytes, bytes]]) -> list[Record]:
    """Mask a recording of rc522.

    Args:
        pairs: each real number with the one that stands for it.

    Raises:
        CannotMask: it holds something of a card that is in no pair.
    """
    swaps: dict[str, str] = {}
    for uid, fake in pairs:
        for level, (real, made) in enumerate(zip(cascade_levels(uid), cascade_levels(fake), strict=True)):
            swaps[select_bytes(level, real).hex()] = select_bytes(level, made).hex()
            swaps[(real + bytes([bcc(real)])).hex()] = (made + bytes([bcc(made)])).hex()
    # SELECT with its CRC first, then the bare answer to anticollision.
    order = sorted(swaps, key=len, reverse=True)
    fifo = write(Register.FIFO_DATA).hex()
    known = {part for uid, _ in pairs for part in cascade_levels(uid)}
    masked = []
    for record in records:
        if record[0] != "s":
            masked.append(record)
            continue
        _refuse_other_frames(record, fifo)
        _refuse_strangers(record, fifo, known)
        sides = [[_swap(text, order, swaps) for text in side] for side in record[1:]]
        masked.append(["s", *sides])
    _verify(masked, [part for uid, _ in pairs for part in cascade_levels(uid)])
    return masked


def _refuse_other_frames(record: Record, fifo: str) -> None:
    for text in record[1]:
        if not text.startswith(fifo) or len(text) < 6:
            continue
        command, second = bytes.fromhex(text[2:6])
        if command in SEL_CODES and second not in {0x20, 0x70}:
            raise CannotMask("The recording holds a collision of two cards; record again with one at a time.")
        if command in {0x60, 0x61, 0x30}:
            raise CannotMask("The recording holds keys or memory of a card; record with credential = 'uid'.")


def _refuse_strangers(record: Record, fifo: str, known: set[bytes]) -> None:
    # An anticollision frame whose answer is of no card that was read: its number would stay in the file.
    is_anticollision = any(text.startswith(fifo) and bytes.fromhex(text[2:6])[1:] == b"\x20" for text in record[1])
    if not is_anticollision or not record[2]:
        return
    answer = Answer.parse(bytes.fromhex(record[2][-1]))
    if answer.data and answer.data[:4] not in known:
        raise CannotMask("The recording holds a card that was not read; its number cannot be replaced.")


def _swap(text: str, order: Sequence[str], swaps: dict[str, str]) -> str:
    for real in order:
        place = text.find(real)
        if place >= 0 and place % 2 == 0:
            return text[:place] + swaps[real] + text[place + len(real) :]
    return text


def _verify(records: Sequence[Record], forbidden: Sequence[bytes]) -> None:
    text = "".join("".join(side) if isinstance(side, list) else str(side) for record in records for side in record[1:])
    if any(part.hex() in text.lower() for part in forbidden):
        raise CannotMask("Part of a card number would remain in the recording, so it was not written.")
