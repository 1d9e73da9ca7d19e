"""MFRC522 through the library `mfrc522` 0.0.7 (extra `pi`), with its faults fenced in.

    4-byte UIDs     yes; the check byte it appends is verified and cut off
    7, 10 bytes     refused: it reads the first cascade level only, and different cards would share a number
    two cards       not detected
    pace            every empty look spins 2000 register reads, tens of milliseconds of a whole core

Kept for side-by-side comparison; use driver `rc522` at a door. The fences, with the library's lines they hold off: the
reset pin defaults to BCM 15, the receive line of the serial port, so it is always named; the mode of GPIO is set to BCM
first; its logger gets a new handler from every object; `Close_MFRC522` cleans up the pins of the whole process, so only
the SPI line is closed; after anticollision the card is not halted, so every second look finds nothing, which three
misses before a card counts as gone absorb.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway.access.rules import Reason
from gateway.cards.iso14443 import CASCADE_TAG, UNKNOWN_TYPE, bcc
from gateway.errors import ConfigError, MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardGone, CardRefused, ReaderEvent, Transports, Vitals
from gateway.readers.judge import judge_uid
from gateway.readers.presence import Presence

_PORT = re.compile(r".*spidev(\d+)\.(\d+)")
_BCM = 11
_CHECK_EVERY_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an mfrc522 reader.

    Attributes:
        reset_gpio: BCM number of the chip's reset line.
    """

    speed_hz: int = 1_000_000
    reset_gpio: int = 25
    rearm_ms: float = 400.0

    def __post_init__(self) -> None:
        problems = []
        if not 100_000 <= self.speed_hz <= 10_000_000:
            problems.append("speed_hz: must be from 100000 to 10000000")
        if not 0 <= self.reset_gpio <= 27 or self.reset_gpio in {14, 15}:
            problems.append("reset_gpio: must be a BCM number from 0 to 27, and not 14 or 15, the serial port")
        if not 20 <= self.rearm_ms <= 10_000:
            problems.append("rearm_ms: must be from 20 to 10000")
        if problems:
            raise ConfigError(problems)


class Mfrc522LibraryReader:
    """Reader over the library's MFRC522 object."""

    def __init__(self, name: str, port: str, options: Options, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = 0.005
        self._port = port
        self._options = options
        self._now_ns = now_ns
        self._presence = Presence(options.rearm_ms)
        self._library: Any = None
        self._next_check_ns = 0

    def open(self) -> None:
        place = _PORT.fullmatch(self._port)
        if place is None:
            raise ReaderOffline(f"{self._port} is not a spidev name; write one such as /dev/spidev0.0.")
        library = self._import()
        again = self.vitals.state != "starting"
        self.close()
        try:
            self._library = library.MFRC522(
                int(place[1]), int(place[2]), self._options.speed_hz, _BCM, self._options.reset_gpio
            )
        except (OSError, RuntimeError, ValueError) as error:
            self._fail(f"{self._port} cannot be used by the mfrc522 library ({error}).")
        log = logging.getLogger("mfrc522Logger")
        log.handlers.clear()
        self._check()
        self.vitals.reopens += again
        self.vitals.state, self.vitals.detail = "ready", "library mfrc522 0.0.7"

    @staticmethod
    def _import() -> Any:
        try:
            import mfrc522  # noqa: PLC0415  # only this driver needs it, and it touches the GPIO when imported
            from RPi import GPIO  # noqa: PLC0415  # importing touches the hardware
        except ImportError as error:
            raise MissingExtra(f"Driver mfrc522 needs {error.name}; install tapgate[pi].") from error
        except RuntimeError as error:
            raise MissingExtra(f"Driver mfrc522 needs a Raspberry Pi ({error}).") from error
        if GPIO.getmode() is None:
            GPIO.setmode(GPIO.BCM)
        return mfrc522

    def _fail(self, why: str) -> NoReturn:
        self.vitals.state, self.vitals.detail = "offline", why
        raise ReaderOffline(why)

    def _check(self) -> None:
        chip = self._library
        version = chip.Read_MFRC522(0x37)
        if version in {0x00, 0xFF}:
            self._fail(f"No MFRC522 answers on {self._port}; check wiring, 3.3 V and chip select.")
        if chip.Read_MFRC522(chip.TxControlReg) & 0x03 != 0x03:
            # The chip has lost its settings in a dip of the supply; the library never looks.
            self.vitals.resets += 1
            chip.MFRC522_Init()
        self.vitals.firmware = f"{version:02X}"
        self._next_check_ns = self._now_ns() + _CHECK_EVERY_NS

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        try:
            if self._now_ns() >= self._next_check_ns:
                self._check()
            level = self._read_level()
        except (OSError, IndexError, AttributeError) as error:
            self._fail(f"{self._port} does not take a transfer ({type(error).__name__}).")
        now_ns = self._now_ns()
        if level is None:
            return [CardGone(self.name, now_ns) for card in self._presence.cards if self._presence.missed(card, now_ns)]
        if not self._presence.seen(level, now_ns):
            return []
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        return [self._judge(level, now_ns)]

    def _read_level(self) -> bytes | None:
        chip = self._library
        status, _ = chip.MFRC522_Request(chip.PICC_REQALL)
        if status != chip.MI_OK:
            return None
        status, five = chip.MFRC522_Anticoll()
        if status != chip.MI_OK or len(five) != 5 or bcc(bytes(five[:4])) != five[4]:
            return None
        return bytes(five[:4])

    def _judge(self, level: bytes, now_ns: int) -> ReaderEvent:
        if level[0] == CASCADE_TAG:
            detail = "The mfrc522 library reads only the first bytes of 7-byte cards; use driver rc522."
            return CardRefused(self.name, Reason.CARD_FORMAT, detail, now_ns)
        return judge_uid(self.name, level, UNKNOWN_TYPE, now_ns)

    def signal(self, signal: Signal) -> bool:  # noqa: ARG002  # the chip has no lamp
        return False

    def close(self) -> None:
        library, self._library = self._library, None
        if library is not None:
            library.spi.close()


def make(name: str, port: str, options: Options, transports: Transports) -> Mfrc522LibraryReader:
    del transports  # the library opens spidev itself
    return Mfrc522LibraryReader(name, port, options)
