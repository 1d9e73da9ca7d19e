"""Masks for readers behind a library: OSDP's card words, PC/SC's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.cards.wiegand import number_of, word_with
from gateway.errors import BadCardNumber
from gateway.readers.masking.numbers import Fakes
from gateway.transports.trace import Record

_STATUS_BYTES = 2
_OK = "9000"

_Swap = Callable[[dict[str, Any]], dict[str, Any]]


def _replace(records: Sequence[Record], method: str, swap: _Swap) -> list[Record]:
    return [
        [*record[:3], [swap(item) for item in record[3]]]
        if record[:2] == ["c", method] and record[3] is not None
        else record
        for record in records
    ]


def mask_osdp(records: Sequence[Record], options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of osdp; returns the real numbers too."""
    fakes = Fakes()

    def swap(report: dict[str, Any]) -> dict[str, Any]:
        if report["kind"] != "card":
            return report
        return {**report, "data": _word(bytes.fromhex(report["data"]), report["bits"], options.bit_order, fakes).hex()}

    return _replace(records, "turn", swap), set(fakes.real)


def _word(data: bytes, bits: int, bit_order: str, fakes: Fakes) -> bytes:
    shift = max(len(data) * 8 - bits, 0)
    word = int.from_bytes(data, "big") >> shift
    try:
        read = number_of(word, bits)
    except BadCardNumber:
        # Zeros have a wrong parity, and a length that is no number is none whatever it holds.
        return bytes(len(data))
    number = read.value
    turned = bit_order == "lsb" and not bits % 8
    made = fakes.of(number[::-1] if turned else number)
    made = made[::-1] if turned else made
    return (word_with(made, bits, read.projection) << shift).to_bytes(len(data), "big")


def mask_pcsc(records: Sequence[Record], _options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of pcsc; returns the real numbers too."""
    fakes = Fakes()

    def swap(report: dict[str, Any]) -> dict[str, Any]:
        if report["what"] != "answer" or len(report["data"]) <= 2 * _STATUS_BYTES:
            return report
        body, status = bytes.fromhex(report["data"])[:-_STATUS_BYTES], report["data"][-2 * _STATUS_BYTES :]
        made = fakes.of(body) if status == _OK else bytes(len(body))
        return {**report, "data": made.hex() + status}

    return _replace(records, "take", swap), set(fakes.real)


LIBRARY_MASKS: dict[str, Callable[[Sequence[Record], Any], tuple[list[Record], set[bytes]]]] = {
    "osdp": mask_osdp,
    "pcsc": mask_pcsc,
}
