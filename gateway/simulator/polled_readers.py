"""Serial readers that answer questions, at the far end of a pseudo terminal: TWN4, PN532, SL500.

Each is a thread that keeps its reader's protocol; cards are UIDs with their answers. Faults, switched on from outside:
`mute` (stuck, but plugged), `noise` (bytes before the next answer), `spoil` (what becomes of the next answer that holds
a card), `split_seconds` (every answer in two pieces).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable

from gateway.protocols import pn532, sl500
from gateway.simulator.iso14443_cards import CLASSIC_1K, NTAG, CardType
from gateway.simulator.line_readers import PtyEnd

# Longer than any answer without a card's number.
_WITH_A_CARD = 12


class PolledDevice(PtyEnd):
    """The thread, the cards and the faults."""

    def __init__(self) -> None:
        self.mute = False
        self.noise = b""
        self.spoil: Callable[[bytes], bytes] | None = None
        self.split_seconds = 0.0
        self.shown: list[str] = []
        self._cards: tuple[tuple[CardType, bytes], ...] = ()
        self._stop = threading.Event()
        super().__init__()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def enter(self, uid: bytes, kind: CardType | None = None) -> None:
        """Bring a card to the reader."""
        self._cards = (*self._cards, (kind or (CLASSIC_1K if len(uid) == 4 else NTAG), uid))

    def leave(self) -> None:
        """Take all cards away."""
        self._cards = ()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, ValueError):
                data = self.received(0.02)
                for answer in self.answers(data) if data else ():
                    self._say(answer)

    def _say(self, answer: bytes) -> None:
        if self.mute:
            return
        noise, self.noise = self.noise, b""
        if self.spoil is not None and self._cards and len(answer) > _WITH_A_CARD:
            answer, self.spoil = self.spoil(answer), None
        if self.split_seconds:
            half = len(answer) // 2
            self.send_split([noise, answer[:half], answer[half:]], self.split_seconds)
        else:
            self.send(noise + answer)

    def answers(self, data: bytes) -> Iterable[bytes]:
        """Take what arrived and return what to send."""
        raise NotImplementedError

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        super().close()


class Twn4Device(PolledDevice):
    """TWN4 with Simple Protocol firmware; `shown` collects its LED and beep requests.

    Attributes:
        tag_type: the reader's own number of the kind of its cards.
        bits: how many bits their numbers have; 0 for whole bytes.
    """

    def __init__(self) -> None:
        self._text = bytearray()
        self._searched = bytes(8)
        self.tag_type, self.bits = 0x80, 0
        super().__init__()

    def answers(self, data: bytes) -> Iterable[bytes]:
        self._text += data
        while b"\r" in self._text:
            line, _, rest = bytes(self._text).partition(b"\r")
            self._text = bytearray(rest)
            try:
                yield self._answer(bytes.fromhex(line.decode("ascii"))).hex().upper().encode() + b"\r"
            except ValueError:
                yield b"05\r"  # parser error

    def _answer(self, request: bytes) -> bytes:
        match request[:2]:
            case b"\x05\x00":
                return self._search()
            case b"\x00\x04":
                text = b"TWN4/B1.08/CCS3.17"
                return bytes([0, len(text)]) + text
            case b"\x05\x02":
                self._searched = request[2:]
                return b"\x00"
            case b"\x04\x10":
                return b"\x00"
            case b"\x04\x07" | b"\x04\x11" | b"\x04\x12" | b"\x04\x14":
                self.shown.append(request.hex())
                return b"\x00"
            case _:
                return b"\x01"

    def _search(self) -> bytes:
        mask = int.from_bytes(self._searched[4:] if self.tag_type & 0x80 else self._searched[:4], "little")
        if not self._cards or not mask >> (self.tag_type & 0x1F) & 1:
            return b"\x00\x00"
        uid = self._cards[0][1]
        return bytes([0, 1, self.tag_type, self.bits or len(uid) * 8, len(uid)]) + uid


class Pn532Device(PolledDevice):
    """A PN532: asleep until woken, deaf while it looks without a limit, with cards that answer once a field."""

    def __init__(self) -> None:
        self._parser = pn532.FrameParser(0xD4)
        self.awake = False
        self.busy = False
        self._limited = False
        self._active: bytes | None = None
        super().__init__()

    def plug(self) -> None:
        self.awake = self.busy = self._limited = False
        self._active = None
        super().plug()

    def answers(self, data: bytes) -> Iterable[bytes]:
        if not self.awake:
            if b"\x55" not in data:
                return
            self.awake = True
        for event in self._parser.feed(data):
            if isinstance(event, pn532.Acknowledged):
                self.busy = False
            elif isinstance(event, pn532.Reply) and not self.busy:
                yield pn532.ACK
                answer = self._answer(bytes([event.code]) + event.data)
                if answer is None:
                    self.busy = True
                else:
                    yield pn532.frame(answer, 0xD5)

    def _answer(self, command: bytes) -> bytes | None:
        match command[0]:
            case 0x14:
                return b"\x15"
            case 0x02:
                return bytes.fromhex("0332010607")
            case 0x32:
                if command[1] == 0x05:
                    self._limited = command[4] != 0xFF
                elif command[1] == 0x01 and not command[2] & 1:
                    self._active = None
                return b"\x33"
            case 0x4A:
                return self._list()
            case _:
                return b"\x7f"

    def _list(self) -> bytes | None:
        # A card that is still active in the field does not answer the next request.
        found = [(kind, uid) for kind, uid in self._cards if uid != self._active]
        if not found:
            self._active = None
            return b"\x4b\x00" if self._limited else None
        kind, self._active = found[0]
        return b"\x4b\x01\x01" + kind.atqa[::-1] + bytes([kind.sak, len(self._active)]) + self._active


class Sl500Device(PolledDevice):
    """An SL500; `shown` collects its LED and beep requests.

    Attributes:
        knows_seven: False for a firmware without rf_ul_select: silent, as to every command that it does not have.
        drops_second_level: True for a card at the edge of the field.
    """

    def __init__(self) -> None:
        self.knows_seven = True
        self.drops_second_level = False
        self._parser = sl500.FrameParser()
        super().__init__()

    def answers(self, data: bytes) -> Iterable[bytes]:
        for request in self._parser.feed(data):
            if request.command == sl500.SELECT_SEVEN and not self.knows_seven:
                continue
            status, answer = self._answer(request.command, request.content)
            yield sl500.frame(request.command, bytes([status]) + answer, 0x5152)

    def _answer(self, command: int, body: bytes) -> tuple[int, bytes]:
        kind, uid = self._cards[0] if self._cards else (CLASSIC_1K, b"")
        level = uid if len(uid) == 4 else b"\x88" + uid[:3]
        match command:
            case sl500.LED | sl500.BEEP:
                self.shown.append(f"{command:04x}:{body.hex()}")
                return 0, b""
            case sl500.GET_MODEL:
                return 0, b"SL500F-0608"
            case sl500.SELECT_SEVEN if len(uid) == 7 and not self.drops_second_level:
                return 0, uid
            case sl500.REQUEST if uid:
                return 0, kind.atqa
            case sl500.ANTICOLLISION if uid:
                return 0, level
            case sl500.SELECT if uid and body == level:
                return 0, bytes([kind.sak])
            case sl500.HALT if uid:
                return 0, b""
            case _:
                return 20, b""
