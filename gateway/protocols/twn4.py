"""Elatec TWN4 Simple Protocol, ASCII mode: hex text and CR both ways.

    request   API byte, function byte, parameters
    answer    error byte (0 none), results

Integers are little-endian. The reader needs a firmware of the Simple Protocol kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.errors import BadMessage

SEARCH_TAG = b"050010\r"  # answer at most 16 bytes of ID
GET_VERSION = b"0004FF\r"
RED, GREEN, YELLOW = 0x01, 0x02, 0x04
LED_INIT = b"041007\r"

_ISO14443A = 0x80
_MAX_TEXT = 600
# The reader's own numbers of kinds; the low five bits are their place in the masks of SetTagTypes.
HID_PROX = 0x49
TAG_TYPES = {
    "iso14443a": _ISO14443A,
    "iso15693": 0x82,
    "legic": 0x83,
    "iclass": 0x84,
    "felica": 0x85,
    "em4100": 0x40,
    "hid-prox": HID_PROX,
}
_LOW_FREQUENCY, _HIGH_FREQUENCY = 0x40, 0x80


@dataclass(frozen=True, slots=True)
class FoundTag:
    """The result of SearchTag.

    Attributes:
        tag_type: the reader's own number of a kind; 0x80 is ISO 14443 type A.
        bits: how many bits of the number count; the first one is the top bit of its first byte.
    """

    tag_type: int
    number: bytes
    bits: int = field(default=0, compare=False)

    @property
    def is_iso14443a(self) -> bool:
        return self.tag_type == _ISO14443A


class Replies:
    """Collects one CR-ended hex reply; the events do not depend on how bytes were cut."""

    def __init__(self) -> None:
        self._text = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """Return the reply's bytes once its CR has come.

        Raises:
            BadMessage: what came is not hex text; the rest of it is gone too.
        """
        self._text += data
        text, ended, rest = bytes(self._text).partition(b"\r")
        if not ended:
            if len(self._text) > _MAX_TEXT:
                self._text.clear()
                raise BadMessage("The reader's reply does not end.")
            return None
        # One question has one reply: what stands after it is late or noise.
        del rest
        self._text.clear()
        try:
            return bytes.fromhex(text.strip().decode("ascii"))
        except ValueError:
            raise BadMessage("The reader's reply is not hex text.") from None


def results_of(reply: bytes) -> bytes:
    """Return the results of a reply without error.

    Raises:
        BadMessage: the reader reports an error; 1 is an unknown function, so the firmware is another one.
    """
    if not reply or reply[0]:
        code = reply[0] if reply else -1
        raise BadMessage(f"The reader answers with error {code}; it needs Simple Protocol firmware.")
    return reply[1:]


def parse_search(reply: bytes) -> FoundTag | None:
    """Read the reply to SEARCH_TAG; None when there is no tag.

    Raises:
        BadMessage: the reply is not of that form.
    """
    results = results_of(reply)
    if not results or results[0] not in {0, 1}:
        raise BadMessage("The reply to a search has no result.")
    if results[0] == 0:
        return None
    # found | tag type | bits | bytes | ID
    if len(results) < 5 or len(results) != 4 + results[3] or (results[2] + 7) // 8 != results[3]:
        raise BadMessage("The reply to a search has a wrong length.")
    return FoundTag(results[1], results[4:], results[2])


def set_tag_types(kinds: Iterable[str]) -> bytes:
    """Build the request to search for these kinds of TAG_TYPES only: a search for one kind ends sooner."""
    masks = {_LOW_FREQUENCY: 0, _HIGH_FREQUENCY: 0}
    for kind in kinds:
        number = TAG_TYPES[kind]
        masks[number & 0xE0] |= 1 << (number & 0x1F)
    low, high = (masks[band].to_bytes(4, "little") for band in (_LOW_FREQUENCY, _HIGH_FREQUENCY))
    return _text(b"\x05\x02" + low + high)


def beep(hertz: int, on_ms: int, volume: int = 100) -> bytes:
    """Build a beep; the reader answers when it is over."""
    body = b"\x04\x07" + bytes([volume]) + b"".join(word.to_bytes(2, "little") for word in (hertz, on_ms, 0))
    return _text(body)


def led(mask: int, *, on: bool) -> bytes:
    return _text(bytes([0x04, 0x11 if on else 0x12, mask]))


def led_blink(mask: int, on_ms: int, off_ms: int) -> bytes:
    return _text(bytes([0x04, 0x14, mask]) + on_ms.to_bytes(2, "little") + off_ms.to_bytes(2, "little"))


def _text(body: bytes) -> bytes:
    return body.hex().upper().encode() + b"\r"
