"""A DESFire with one application: ISO 14443-4 blocks, AES authentication of EV1 and EV2, files in every mode.

The card counts its own MACs, checksums and vectors, with nothing of the reader's side, from the block cipher up.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.cards.iso14443 import has_good_crc, with_crc
from gateway.protocols.iso_dep import DESELECT
from gateway.simulator.iso14443_cards import DESFIRE, Card, CardType, RadioFrame, State, radio_frame

PLAIN, MAC, FULL = 0, 1, 3
# With a random UID the card has the ATQA of a single-size one.
_DESFIRE_RANDOM = CardType("desfire", bytes.fromhex("0403"), 0x20)
_EVERYBODY = 0x0E
_OK, _MORE = b"\x00", b"\xaf"
_NO_SUCH_COMMAND, _INTEGRITY, _LENGTH, _DENIED = b"\x1c", b"\x1e", b"\x7e", b"\x9d"
_NO_APPLICATION, _AUTHENTICATION, _BOUNDARY, _NO_FILE = b"\xa0", b"\xae", b"\xbe", b"\xf0"
_SELECT, _AES, _EV2, _CONTINUE, _SETTINGS, _READ, _UID = 0x5A, 0xAA, 0x71, 0xAF, 0xF5, 0xBD, 0x51


def _aes(key: bytes, data: bytes, vector: bytes, *, decrypt: bool = False) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(vector))
    step = cipher.decryptor() if decrypt else cipher.encryptor()
    return step.update(data) + step.finalize()


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _turned(data: bytes) -> bytes:
    return data[1:] + data[:1]


def chained_mac(key: bytes, message: bytes, vector: bytes = bytes(16)) -> bytes:
    """Return a CMAC block by block, as the card's own hardware does; `vector` is where the chain stands."""
    subkey = int.from_bytes(_aes(key, bytes(16), bytes(16)), "big")
    whole = bool(message) and len(message) % 16 == 0
    for _ in range(1 if whole else 2):
        subkey = (subkey << 1 ^ (0x87 if subkey >> 127 else 0)) & (1 << 128) - 1
    padded = message if whole else message + b"\x80" + bytes(-len(message) - 1 & 15)
    last = _xor(padded[-16:], subkey.to_bytes(16, "big"))
    return _aes(key, padded[:-16] + last, vector)[-16:]


def checksum(data: bytes) -> bytes:
    """Return the CRC-32 in EV1's encrypted content, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc.to_bytes(4, "little")


class DesfireCard(Card):
    """The card.

    Args:
        uid: on the air; None draws a random one of four bytes at every entry into a field.
        true_uid: what GetCardUID tells, `uid` when that is none.

    Attributes:
        files: number to content.
        modes: number to PLAIN, MAC or FULL, plain by default.
        key_number: of the key that reads the files; without a key everybody does.
        tells_settings: False for an issuer who keeps file settings to the master key.
        thinks: how many times it asks for more time before each answer.
    """

    _ATS = bytes.fromhex("067577810280")
    _CHUNK = 58

    def __init__(self, uid: bytes | None, aid: int, key: bytes | None = None, true_uid: bytes = b"") -> None:
        super().__init__(DESFIRE if uid is not None else _DESFIRE_RANDOM, uid)
        self.aid = aid
        self.key = key
        self.true_uid = true_uid or uid or b""
        self.files: dict[int, bytes] = {}
        self.modes: dict[int, int] = {}
        self.key_number = 0
        self.tells_settings = True
        self.thinks = 0
        self._in_protocol = False

    def activated(self) -> None:
        self._in_protocol = self._selected = False
        self._number = 1
        self._parts = bytearray()
        self._chunks: list[bytes] = []
        self._waits = 0
        self._last = b""
        self._forget()

    def _forget(self) -> None:
        self._scheme = self._pending = 0
        self._challenge = b""

    def receive(self, frame: RadioFrame) -> RadioFrame | None:
        if self.state is State.ACTIVE and self._in_protocol:
            # ISO/IEC 14443-4: in its protocol a card hears no WUPA and stays silent to what is damaged.
            value, bits = frame
            whole = bits % 8 == 0 and has_good_crc(value.to_bytes(bits >> 3, "little"))
            return self.command(value.to_bytes(bits >> 3, "little")) if whole else None
        return super().receive(frame)

    def command(self, data: bytes) -> RadioFrame | None:
        if not has_good_crc(data):
            return None
        frame = data[:-2]
        if not self._in_protocol:
            self._in_protocol = frame[:1] == b"\xe0"
            return radio_frame(with_crc(self._ATS)) if self._in_protocol else None
        answer = self._block(frame)
        if answer == DESELECT:
            self.state = self._rest = State.HALT
        if answer is None:
            return None
        self._last = answer
        return radio_frame(with_crc(answer))

    def _block(self, frame: bytes) -> bytes | None:
        pcb = frame[0]
        if frame == DESELECT:
            return DESELECT
        if pcb & 0xE6 == 0xA2:
            return self._on_r_block(pcb)
        if pcb == 0xF2:
            self._waits -= 1
            return b"\xf2\x02" if self._waits > 0 else self._send_chunk()
        if pcb & 0xE2 != 0x02:
            return None
        self._number ^= 1
        self._parts += frame[1:]
        if pcb & 0x10:
            return bytes([0xA2 | self._number])
        command, self._parts = bytes(self._parts), bytearray()
        answer = self._perform(command)
        self._chunks = [answer[place : place + self._CHUNK] for place in range(0, len(answer), self._CHUNK)]
        self._waits = self.thinks
        return b"\xf2\x02" if self._waits else self._send_chunk()

    def _on_r_block(self, pcb: int) -> bytes | None:
        if pcb & 1 == self._number:
            return self._last or None
        if pcb & 0x10:
            return bytes([0xA2 | self._number])  # the block before this one never arrived
        if not self._chunks:
            return None
        self._number ^= 1
        return self._send_chunk()

    def _send_chunk(self) -> bytes:
        chunk = self._chunks.pop(0)
        return bytes([0x02 | self._number | (0x10 if self._chunks else 0)]) + chunk

    def _perform(self, command: bytes) -> bytes:
        code, rest = command[0], command[1:]
        if code == _SELECT:
            self._forget()
            self._selected = int.from_bytes(rest, "little") == self.aid
            return _OK if self._selected else _NO_APPLICATION
        if code in {_AES, _EV2}:
            return self._challenge_reader(code, rest)
        if code == _CONTINUE:
            return self._finish(rest)
        answer = {_SETTINGS: self._tell_settings, _READ: self._read, _UID: self._tell_uid}.get(code)
        reply = answer(command) if answer and self._selected else _NO_SUCH_COMMAND
        if reply[:1] != _OK:
            self._forget()
        return reply

    def _challenge_reader(self, code: int, rest: bytes) -> bytes:
        self._forget()
        if not self._selected or self.key is None or rest[:1] != bytes([self.key_number]):
            return _AUTHENTICATION
        self._pending = code
        self._challenge = secrets.token_bytes(16)
        self._vector = _aes(self.key, self._challenge, bytes(16))
        return _MORE + self._vector

    def _finish(self, sent: bytes) -> bytes:
        code, self._pending = self._pending, 0
        if not code or self.key is None or len(sent) != 32:
            return _AUTHENTICATION
        plain = _aes(self.key, sent, self._vector if code == _AES else bytes(16), decrypt=True)
        a, b = plain[:16], self._challenge
        if plain[16:] != _turned(b):
            return _AUTHENTICATION
        self._scheme = code
        if code == _AES:
            self._session = a[:4] + b[:4] + a[12:] + b[12:]
            self._vector = bytes(16)
            return _OK + _aes(self.key, _turned(a), sent[-16:])
        self._transaction = secrets.token_bytes(4)
        self._counter = 0
        label = bytes.fromhex("00010080") + a[:2] + _xor(a[2:8], b[:6]) + b[6:] + a[8:]
        self._session = chained_mac(self.key, bytes.fromhex("A55A") + label)
        self._signing = chained_mac(self.key, bytes.fromhex("5AA5") + label)
        return _OK + _aes(self.key, self._transaction + _turned(a) + bytes(12), bytes(16))

    def _tell_settings(self, command: bytes) -> bytes:
        if not self.tells_settings:
            return _DENIED
        header, refusal = self._open(command, 2, MAC)
        if refusal:
            return refusal
        data = self.files.get(header[1])
        if data is None:
            return _NO_FILE
        reader = _EVERYBODY if self.key is None else self.key_number
        mode = self.modes.get(header[1], PLAIN)
        return self._seal(bytes([0, mode, 0xF0, reader << 4 | 0x0F]) + len(data).to_bytes(3, "little"), MAC)

    def _read(self, command: bytes) -> bytes:
        if self.key is not None and not self._scheme:
            return _AUTHENTICATION
        data = self.files.get(command[1]) if len(command) > 1 else None
        if data is None:
            return _NO_FILE
        mode = self.modes.get(command[1], PLAIN) if self._scheme else PLAIN
        header, refusal = self._open(command, 8, mode)
        if refusal:
            return refusal
        start, length = (int.from_bytes(header[place : place + 3], "little") for place in (2, 5))
        return _BOUNDARY if start + length > len(data) else self._seal(data[start : start + length], mode)

    def _tell_uid(self, command: bytes) -> bytes:
        if not self._scheme:
            return _AUTHENTICATION
        _, refusal = self._open(command, 1, FULL)
        return refusal or self._seal(self.true_uid, FULL)

    def _open(self, command: bytes, length: int, mode: int) -> tuple[bytes, bytes]:
        """Check a command; returns it without its MAC, and the status of its refusal, empty when it is good."""
        if self._scheme == _EV2 and mode != PLAIN:
            if len(command) != length + 8:
                return b"", _LENGTH
            command, mac = command[:length], command[length:]
            if mac != self._sign(command[0], command[1:]):
                return b"", _INTEGRITY
        elif len(command) != length:
            return b"", _LENGTH
        elif self._scheme == _AES:
            self._vector = chained_mac(self._session, command, self._vector)
        return command, b""

    def _seal(self, content: bytes, mode: int) -> bytes:
        if self._scheme == _AES:
            return _OK + self._seal_chained(content, mode)
        if self._scheme != _EV2:
            return _OK + content
        self._counter += 1
        if mode == PLAIN:
            return _OK + content
        if mode == FULL:
            start = bytes.fromhex("5AA5") + self._transaction + self._counter.to_bytes(2, "little") + bytes(8)
            padded = content + b"\x80" + bytes(-len(content) - 1 & 15)
            content = _aes(self._session, padded, _aes(self._session, start, bytes(16)))
        return _OK + content + self._sign(0, content)

    def _seal_chained(self, content: bytes, mode: int) -> bytes:
        if mode == FULL:
            plain = content + checksum(content + _OK)
            sealed = _aes(self._session, plain + bytes(-len(plain) & 15), self._vector)
            self._vector = sealed[-16:]
            return sealed
        self._vector = chained_mac(self._session, content + _OK, self._vector)
        return content + self._vector[:8]

    def _sign(self, code: int, data: bytes) -> bytes:
        message = bytes([code]) + self._counter.to_bytes(2, "little") + self._transaction + data
        return chained_mac(self._signing, message)[1::2]
