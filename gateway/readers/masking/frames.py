"""Masks for readers whose frames carry checks: PN532 and SL500.

A good frame is rebuilt around the invented number, with the check of the new bytes. Of everything else, a frame cut
short, a flipped bit, noise, the head stays and the rest is wiped, with its check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gateway.errors import BadMessage
from gateway.protocols import pn532, sl500
from gateway.readers.masking.numbers import Fakes
from gateway.readers.masking.windows import put_back, request_windows
from gateway.transports.trace import Record

_FILLERS = b"\x2e\x2f\x2d"
_PN532_HEAD, _SL500_HEAD = b"\x00\xff", b"\xaa\xbb"
# Both start codes are followed by two bytes of length. No more stays: in noise a number may stand right after them.
_KEPT = 4
_LISTED = pn532.LIST_ONE_ISO14443A[0] + 1
_NUMBER_PLACE = 6
_HARMLESS = frozenset(
    command[0] + 1 for command in (pn532.SAM_CONFIGURATION, pn532.GET_FIRMWARE_VERSION, pn532.LIMIT_RETRIES)
)

_Parts = Iterator[tuple[bytes, Any]]


def _parts(data: bytes, parser: Any, encode: Callable[[bytes, Any], bytes | None]) -> _Parts:
    """Cut bytes into frames, each with its event, and what stands between, with None.

    Args:
        encode: returns the bytes of an event's frame, of those that end here; None when there is no such frame.
    """
    start = 0
    for end in range(1, len(data) + 1):
        for event in parser.feed(data[end - 1 : end]):
            frame = encode(data[start:end], event)
            if frame is None or not data[start:end].endswith(frame):
                continue
            if end - len(frame) > start:
                yield data[start : end - len(frame)], None
            yield frame, event
            start = end
    if start < len(data):
        yield data[start:], None


def _wiped(part: bytes, head: bytes, reads: Callable[[bytes], bool]) -> bytes:
    """Wipe what is no frame, so that it becomes none.

    Args:
        head: how a frame starts; of each one _KEPT bytes stay.
        reads: tells whether bytes hold a good frame.
    """
    stays = [False] * len(part)
    place = part.find(head)
    while place >= 0:
        end = min(place + _KEPT, len(part))
        stays[place:end] = [True] * (end - place)
        # The head of a frame that starts inside what stays of another may be part of a number.
        place = part.find(head, end)
    for filler in _FILLERS:
        made = bytes(byte if stay else filler for byte, stay in zip(part, stays, strict=True))
        if not reads(made):
            return made
    return bytes([_FILLERS[0]]) * len(part)


def mask_pn532(records: Sequence[Record], _options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of pn532; returns the real numbers too."""
    masked, fakes = list(records), Fakes()

    def reads(data: bytes) -> bool:
        return any(isinstance(event, pn532.Reply) for event in pn532.FrameParser().feed(data))

    for window in request_windows(records):
        parts = [
            _pn532_frame(event, fakes)
            if isinstance(event, pn532.Reply)
            else part
            if event is not None
            else _wiped(part, _PN532_HEAD, reads)
            for part, event in _parts(bytes(window.data), pn532.FrameParser(), _pn532_bytes)
        ]
        put_back(masked, window, b"".join(parts))
    return masked, set(fakes.real)


def _pn532_bytes(raw: bytes, event: Any) -> bytes | None:
    if isinstance(event, pn532.Reply):
        # Without preamble and postamble, which may be missing.
        return pn532.frame(bytes([event.code]) + event.data, 0xD5)[1:-1]
    if isinstance(event, pn532.Acknowledged):
        return pn532.ACK[1:-1]
    # Only the chip's error frame and its NACK hold nothing else.
    short = bytes.fromhex("00FF01FF7F81"), bytes.fromhex("00FFFF00")
    return next((frame for frame in short if raw.endswith(frame)), None)


def _pn532_frame(reply: pn532.Reply, fakes: Fakes) -> bytes:
    data = reply.data
    if reply.code == _LISTED:
        try:
            target = pn532.parse_target(data)
        except BadMessage:
            target = None
            data = data[:_NUMBER_PLACE] + bytes(max(len(data) - _NUMBER_PLACE, 0))
        if target is not None:
            rest = len(data) - _NUMBER_PLACE - len(target.uid)
            data = data[:_NUMBER_PLACE] + fakes.of(target.uid) + bytes(rest)
    elif reply.code not in _HARMLESS:
        data = bytes(len(data))
    return pn532.frame(bytes([reply.code]) + data, 0xD5)[1:-1]


class _Sl500Mask:
    """One recording of sl500.

    The invented numbers need as many stuffed bytes as the real ones in every frame that holds them, so that no piece
    of the line changes its length; the frames are therefore collected first.
    """

    def __init__(self) -> None:
        self.fakes = Fakes(stuffed=_SL500_HEAD[0])
        self._around: dict[bytes, set[tuple[int, bytes, int]]] = {}

    def collect(self, node: int, packet: sl500.Packet) -> None:
        head, number = self._split(packet)
        if number:
            self._around.setdefault(number, set()).add((packet.command, head, node))

    @staticmethod
    def _split(packet: sl500.Packet) -> tuple[bytes, bytes]:
        """Return what stands before the number in a packet, and the number."""
        if packet.command == sl500.SELECT and len(packet.content) == 4:
            return b"", packet.content
        if packet.command in {sl500.ANTICOLLISION, sl500.SELECT_SEVEN} and len(packet.content) > 1:
            return packet.content[:1], packet.content[1:]
        return packet.content, b""

    def frame(self, node: int, packet: sl500.Packet) -> bytes:
        head, number = self._split(packet)
        made = self.fakes.of(number, lambda made: self._fits(number, made)) if number else b""
        return sl500.frame(packet.command, head + made, node)

    def _fits(self, number: bytes, made: bytes) -> bool:
        return all(
            len(sl500.frame(command, head + made, node)) == len(sl500.frame(command, head + number, node))
            for command, head, node in self._around[number]
        )


def _node_of(frame: bytes) -> int:
    return int.from_bytes(frame[2:].replace(b"\xaa\x00", b"\xaa")[2:4], "little")


def _sl500_bytes(raw: bytes, event: Any) -> bytes | None:
    start = raw.rfind(_SL500_HEAD)
    if start < 0:
        return None
    frame = raw[start:]
    return frame if sl500.frame(event.command, event.content, _node_of(frame)) == frame else None


def mask_sl500(records: Sequence[Record], _options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of sl500; returns the real numbers too."""
    masked, mask = list(records), _Sl500Mask()

    def reads(data: bytes) -> bool:
        return bool(sl500.FrameParser().feed(data))

    cut = [
        (window, list(_parts(bytes(window.data), sl500.FrameParser(), _sl500_bytes)))
        for window in request_windows(records)
    ]
    sent = {
        place: next(_parts(bytes.fromhex(record[1]), sl500.FrameParser(), _sl500_bytes))
        for place, record in enumerate(records)
        if record[0] == "w"
    }
    for part, event in [*(item for _, parts in cut for item in parts), *sent.values()]:
        if event is not None:
            mask.collect(_node_of(part), event)
    for window, parts in cut:
        put_back(
            masked,
            window,
            b"".join(
                _wiped(part, _SL500_HEAD, reads) if event is None else mask.frame(_node_of(part), event)
                for part, event in parts
            ),
        )
    for place, (part, event) in sent.items():
        if event is not None:
            masked[place] = ["w", mask.frame(_node_of(part), event).hex()]
    return masked, set(mask.fakes.real)


FRAME_MASKS: dict[str, Callable[[Sequence[Record], Any], tuple[list[Record], set[bytes]]]] = {
    "pn532": mask_pn532,
    "sl500": mask_sl500,
}
