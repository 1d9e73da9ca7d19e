"""An MFRC522 on its SPI line: reset, what the line and the chip can do, settings, field and health.

What a line or a clone cannot do is found at the start by asking twice: one transfer a call against a chain, single
reads against a gather read, a wait inside a message against the clock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from gateway.errors import ReaderOffline
from gateway.protocols import mfrc522, mfrc522_self_test
from gateway.protocols.mfrc522 import Command, Frame, Health, Register, Step
from gateway.readers.rc522.frames import Prepared, message_of
from gateway.transports.reset_line import ResetLine
from gateway.transports.spi import SpiMessage, SpiTransport

log = logging.getLogger(__name__)

FIELD_RISE_SECONDS = 0.005  # ISO/IEC 14443-3: a card is ready at most 5 ms after the field
_RESET_TRIES = 150
_SLOWEST_HZ = 250_000
_PATTERNS = (0x55, 0xAA, 0x0F, 0xF0, 0x01, 0x80, 0x00, 0xFF)
_PROBE_DELAY_US = 3000
_PROBES = 3
# A hung chip comes back at the first pull; more would only disturb a neighbour on the same reset wire.
_PULLS_PER_OUTAGE = 3


class Rc522Line:
    """The chip behind one SpiTransport; every method may raise ReaderOffline when the bus refuses.

    Args:
        reset: the chip's reset pin, used when a soft reset does not bring it back.
    """

    def __init__(
        self,
        transport: SpiTransport,
        speed_hz: int,
        reset: ResetLine | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.version = 0
        self.speed_hz = speed_hz
        self.gathers = True
        self._transport = transport
        self._reset = reset
        self._pulls_left = _PULLS_PER_OUTAGE
        self._sleep = sleep
        self._now_ns = now_ns
        self._antenna = True
        self._running = False
        self._prepare()

    def _prepare(self) -> None:
        self._health = Prepared(Frame(((mfrc522.gather(mfrc522.HEALTH), 0),), 0, 0), gathers=self.gathers)

    def start(self) -> Health:
        """Open the line, wake the chip, find how it can be talked to, set it up and switch the field as it should be.

        Raises:
            ReaderOffline: nothing answers.
        """
        self._running = False
        self._transport.open()
        self._transport.set_speed(self.speed_hz)
        try:
            self._soft_reset()
        except ReaderOffline:
            if self._reset is None or not self._pulls_left:
                raise
            self._pulls_left -= 1
            log.warning("the chip on %s does not answer, pulling its reset pin", self._transport.port)
            self._reset.pulse()
            self._soft_reset()
        self._find_speed()
        self._find_abilities()
        health = self.configure()
        if not health.fault:
            self._pulls_left = _PULLS_PER_OUTAGE
        self._running = True
        return health

    def configure(self) -> Health:
        """Reset the chip and give it its settings; the state of every card in the field is lost."""
        self._soft_reset()
        self._exchange((*mfrc522.configuration_steps(), (mfrc522.antenna(on=self._antenna), 0)))
        self._forget_cards()
        if self._antenna:
            self._sleep(FIELD_RISE_SECONDS)
        health = self.health()
        self.version = health.version
        return health

    def _forget_cards(self) -> None:
        """Take note that no card in the field has kept its state."""

    def field(self, *, on: bool) -> None:
        """Switch the antenna; cards answer FIELD_RISE_SECONDS after it is on, and have lost their state.

        On a closed line only what start will do.
        """
        self._antenna = on
        if self._running:
            self._exchange(((mfrc522.antenna(on=on), 0),))
            self._forget_cards()

    def _soft_reset(self) -> None:
        self._exchange(((mfrc522.write(Register.COMMAND, Command.SOFT_RESET), 0),))
        for attempt in range(_RESET_TRIES):
            self._sleep(0.001)
            command = self._read(Register.COMMAND)
            # An open MISO line reads 00 or FF for ever; a chip reads 20 once its oscillator runs.
            if command in {0x00, 0xFF}:
                if attempt > 2 and self._read(Register.VERSION) in {0x00, 0xFF}:
                    break
            elif not command & mfrc522.POWER_DOWN:
                return
        raise ReaderOffline(f"No MFRC522 answers on {self._transport.port}; check wiring, 3.3 V and chip select.")

    def _find_speed(self) -> None:
        while not self._reads_back():
            if self.speed_hz // 2 < _SLOWEST_HZ:
                raise ReaderOffline(f"Registers on {self._transport.port} do not read back; shorten the wires.")
            self.speed_hz //= 2
            self._transport.set_speed(self.speed_hz)
            log.warning("registers on %s read back wrong, now at %d Hz", self._transport.port, self.speed_hz)

    def _reads_back(self) -> bool:
        for pattern in _PATTERNS:
            self._exchange(((mfrc522.write(Register.T_RELOAD_LOW, pattern), 0),))
            if self._read(Register.T_RELOAD_LOW) != pattern:
                return False
        return True

    def _find_abilities(self) -> None:
        # A bit error must not slow a good line down, so one success in a few is enough.
        self._transport.single = False
        if not any(self._chains() for _ in range(_PROBES)):
            self._transport.single = True
            log.warning("%s does not chain transfers with waits; one call a transfer", self._transport.port)
        gathers = any(self._gathers() for _ in range(_PROBES))
        if gathers != self.gathers:
            self.gathers = gathers
            self._prepare()
        if not gathers:
            log.warning("the chip on %s does not gather reads; one transfer a register", self._transport.port)

    def _chains(self) -> bool:
        begin_ns = self._now_ns()
        chain = self._exchange(
            (
                (mfrc522.write(Register.T_RELOAD_LOW, 0x5A), 0),
                (mfrc522.write(Register.T_RELOAD_HIGH, 0x33), _PROBE_DELAY_US),
                (mfrc522.gather((Register.T_RELOAD_LOW,)), 0),
            )
        )
        waited_us = (self._now_ns() - begin_ns) / 1000
        return waited_us >= _PROBE_DELAY_US and chain.rx[2][1] == 0x5A and self._read(Register.T_RELOAD_HIGH) == 0x33

    def _gathers(self) -> bool:
        self._exchange(((mfrc522.write(Register.T_RELOAD_LOW, 0x5A), 0),))
        self._exchange(((mfrc522.write(Register.T_RELOAD_HIGH, 0x33), 0),))
        pair = self._exchange(((mfrc522.gather((Register.T_RELOAD_LOW, Register.T_RELOAD_HIGH)), 0),)).rx[0]
        return tuple(pair[1:]) == (0x5A, 0x33)

    def _exchange(self, steps: tuple[Step, ...]) -> SpiMessage:
        message = message_of(steps)
        self._transport.exchange(message)
        return message

    def _read(self, register: Register) -> int:
        return self._exchange(((mfrc522.gather((register,)), 0),)).rx[0][1]

    def health(self) -> Health:
        """Read the settings back; one system call."""
        self._transport.exchange(self._health.parts[0][0])
        return Health.parse(self._health.received, antenna=self._antenna)

    def self_test(self) -> bool | None:
        """Run the chip's digital self-test and set it up again; None when this version has no published answer."""
        self._soft_reset()
        self._exchange(mfrc522_self_test.steps())
        answer = bytes(self._read(Register.FIFO_DATA) for _ in range(mfrc522.FIFO_BYTES))
        self._exchange(((mfrc522.write(Register.AUTO_TEST, 0), 0),))
        self.configure()
        expected = mfrc522_self_test.SELF_TEST.get(self.version)
        return None if expected is None else answer == expected

    def close(self) -> None:
        """Release the line; the field stays as it is until the next start, which switches it on."""
        self._running = False
        self._antenna = True
        self._transport.close()
