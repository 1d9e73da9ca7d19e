"""An MFRC522, register by register, at the far end of an SPI line.

Modelled after the NXP MFRC522 data sheet rev. 3.9: reset values, FIFO, command and interrupt bits, timer, CRC unit,
burst access, air times at 106 kbit/s, collisions by bit, start-up after a reset. Time passes on the clock handed in.
Not modelled: noise, other bit rates than 106 kbit/s, the analogue part.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial

from gateway.cards.iso14443 import crc_a
from gateway.protocols.mfrc522 import (
    ANTENNA_ON,
    CRYPTO_ON,
    ERROR_COLLISION,
    ERROR_FIFO,
    ERROR_PARITY,
    FIFO_BYTES,
    IRQ_ERROR,
    IRQ_IDLE,
    IRQ_INVERTED,
    IRQ_RX,
    IRQ_TIMER,
    IRQ_TX,
    POWER_DOWN,
    START_SEND,
    Command,
    Register,
)
from gateway.protocols.mfrc522_self_test import AUTO_TEST_ON, SELF_TEST
from gateway.simulator.clocks import Clock, RealClock
from gateway.simulator.iso14443_cards import Field, FieldAnswer, radio_frame

_RESET_VALUES = {
    Register.COMMAND: 0x20,
    Register.COM_IEN: 0x80,
    Register.COM_IRQ: 0x14,
    Register.STATUS_1: 0x21,
    0x0B: 0x08,  # WaterLevelReg
    Register.CONTROL: 0x10,
    Register.COLL: 0xA0,
    Register.MODE: 0x3F,
    Register.TX_CONTROL: 0x80,
    0x16: 0x10,  # TxSelReg
    0x17: 0x84,  # RxSelReg
    0x18: 0x84,  # RxThresholdReg
    0x19: 0x4D,  # DemodReg
    0x1C: 0x62,  # MfTxReg
    0x1F: 0xEB,  # SerialSpeedReg
    0x21: 0xFF,  # CRCResultReg
    0x22: 0xFF,
    Register.MOD_WIDTH: 0x26,
    Register.RF_CFG: 0x48,
    0x27: 0x88,  # GsNReg
    0x28: 0x20,  # CWGsPReg
    0x29: 0x20,  # ModGsPReg
    Register.AUTO_TEST: 0x40,
}
_READ_ONLY = frozenset({Register.ERROR, Register.STATUS_1, Register.VERSION, 0x21, 0x22, 0x2E, 0x2F})
_CRC_IRQ = 0x04
_ETU_NS = 9440  # 128 / 13.56 MHz
_ANSWER_DELAY_NS = 91_200
_START_UP_NS = 400_000
_AUTHENTICATION_NS = 2_040_000
_NEVER = 1 << 62


class Mfrc522Chip:
    """The chip; give it to transports.memory.MemorySpi or to the virtual Pi.

    Attributes:
        field: the antenna; bring cards there.
        transfers: chip-select periods so far.
        broken: None, or what the bus shows for every byte: 0x00 or 0xFF for a chip that is not there.
        hung: True for a chip that only its reset pin or the supply brings back.
        gathers: False for clones that answer every byte of a read with the first register.
        on_irq: called when the interrupt pin falls, from whoever moves the chip on.
    """

    def __init__(self, clock: Clock | None = None, version: int = 0x92) -> None:
        self._clock = clock or RealClock()
        self.field = Field(self._clock.now_ns)
        self.version = version
        self.transfers = 0
        self.broken: int | None = None
        self.hung = False
        self.gathers = True
        self.on_irq: Callable[[], None] | None = None
        self._irq_high = True
        self._registers = bytearray(64)
        self._fifo = bytearray()
        self._answer: FieldAnswer | None = None
        self._align = 0
        self._due_tx = self._due_rx = self._due_timer = self._due_start = self._due_authenticated = _NEVER
        self._next_due = _NEVER
        self._special: dict[int, Callable[[int], None]] = {
            Register.FIFO_DATA: self._write_fifo,
            Register.FIFO_LEVEL: self._write_fifo_level,
            Register.COM_IRQ: partial(self._write_irq, Register.COM_IRQ),
            Register.DIV_IRQ: partial(self._write_irq, Register.DIV_IRQ),
            Register.COMMAND: self._command,
            Register.BIT_FRAMING: self._write_framing,
            Register.STATUS_2: self._write_status_2,
            Register.COLL: self._write_coll,
            Register.CONTROL: self._write_control,
            Register.TX_CONTROL: self._write_antenna,
        }
        self.power_cycle()

    def power_cycle(self) -> None:
        """Lose all settings, as a brown-out does; the cards lose the field."""
        self.hung = False
        self.field.power(on=False)
        self._registers = bytearray(64)
        for register, value in _RESET_VALUES.items():
            self._registers[register] = value
        self._registers[Register.VERSION] = self.version
        self._fifo.clear()
        self._answer = None
        self._due_tx = self._due_rx = self._due_timer = self._due_authenticated = _NEVER
        self._registers[Register.COMMAND] |= POWER_DOWN
        self._due_start = self._clock.now_ns() + _START_UP_NS
        self._next_due = self._due_start

    def transfer(self, data: bytes | array.array[int]) -> bytes:
        """Answer one chip-select period; the first byte received belongs to no register."""
        self.transfers += 1
        if self.broken is not None or self.hung:
            return bytes([self.broken or 0]) * len(data)
        if self._next_due != _NEVER:
            self._settle()
        first = data[0]
        if not first & 0x80:
            register = first >> 1
            for value in data[1:]:
                self._write(register, value)
            if self.on_irq is not None:
                self._drive_irq()
            return bytes(len(data))
        read = self._read
        if not self.gathers:
            return bytes([0, *[read(first >> 1 & 0x3F) for _ in data[:-1]]])
        return bytes([0, *[read(address >> 1 & 0x3F) for address in data[:-1]]])

    @property
    def irq_due_ns(self) -> int | None:
        """Return when the chip will next change by itself while it has its interrupt pin enabled, None for never."""
        return self._next_due if self._next_due != _NEVER and self._registers[Register.COM_IEN] & 0x7F else None

    def settle(self) -> None:
        """Let the time pass that has passed; the pin falls when it is due."""
        self._settle()

    def _drive_irq(self) -> None:
        enabled = self._registers[Register.COM_IEN]
        active = bool(self._registers[Register.COM_IRQ] & enabled & 0x7F)
        is_high = active is not bool(enabled & IRQ_INVERTED)
        fell, self._irq_high = self._irq_high and not is_high, is_high
        if fell and self.on_irq is not None:
            self.on_irq()

    def _read(self, register: int) -> int:
        if register == Register.FIFO_DATA:
            return self._fifo.pop(0) if self._fifo else 0
        if register == Register.FIFO_LEVEL:
            return len(self._fifo)
        return self._registers[register]

    def _write(self, register: int, value: int) -> None:
        special = self._special.get(register)
        if special is not None:
            special(value)
        elif register not in _READ_ONLY:
            self._registers[register] = value

    def _write_fifo(self, value: int) -> None:
        if len(self._fifo) < FIFO_BYTES:
            self._fifo.append(value)

    def _write_fifo_level(self, value: int) -> None:
        if value & 0x80:
            self._fifo.clear()
            self._registers[Register.ERROR] &= ~ERROR_FIFO & 0xFF

    def _write_irq(self, register: int, value: int) -> None:
        # Set1 tells whether the marked bits are set or cleared.
        marked = value & 0x7F
        held = self._registers[register]
        self._registers[register] = held | marked if value & 0x80 else held & ~marked

    def _write_framing(self, value: int) -> None:
        self._registers[Register.BIT_FRAMING] = value & 0xF7
        if value & START_SEND and self._registers[Register.COMMAND] & 0x0F == Command.TRANSCEIVE:
            self._send(listen=True)

    def _write_status_2(self, value: int) -> None:
        # MFCrypto1On can only be cleared by software.
        self._registers[Register.STATUS_2] = value & 0xC0 | self._registers[Register.STATUS_2] & value & CRYPTO_ON

    def _write_coll(self, value: int) -> None:
        self._registers[Register.COLL] = self._registers[Register.COLL] & 0x7F | value & 0x80

    def _write_control(self, value: int) -> None:
        if value & 0x80:
            self._due_timer = _NEVER

    def _write_antenna(self, value: int) -> None:
        self._registers[Register.TX_CONTROL] = value
        self.field.power(on=value & ANTENNA_ON == ANTENNA_ON)

    def _command(self, value: int) -> None:
        command = value & 0x0F
        if command == Command.SOFT_RESET:
            self.power_cycle()
            return
        registers = self._registers
        registers[Register.COMMAND] = value & 0x3F
        # A new command ends the one before: nothing more is sent or received.
        self._due_tx = self._due_rx = self._due_authenticated = _NEVER
        self._answer = None
        if command == Command.CALC_CRC:
            self._calculate_crc()
        elif command == Command.TRANSMIT:
            self._send(listen=False)
        elif command == Command.TRANSCEIVE and registers[Register.BIT_FRAMING] & START_SEND:
            self._send(listen=True)
        elif command == Command.MEM:
            self._end_command()
        elif command == Command.MF_AUTHENT:
            self._authenticate()

    def _calculate_crc(self) -> None:
        if self._registers[Register.AUTO_TEST] & 0x0F == AUTO_TEST_ON:
            self._fifo[:] = SELF_TEST.get(self.version, bytes(FIFO_BYTES))
            return
        self._registers[0x22], self._registers[0x21] = crc_a(bytes(self._fifo))
        self._fifo.clear()
        self._registers[Register.DIV_IRQ] |= _CRC_IRQ

    def _authenticate(self) -> None:
        # FIFO: kind, block, key, last four UID bytes. Only success ends the command; a wrong key runs into the timer.
        kind, block, *rest = self._fifo[:12].ljust(12, b"\0")
        self._fifo.clear()
        now_ns = self._clock.now_ns()
        self._due_timer = self._timer_from(now_ns + _AUTHENTICATION_NS // 3)
        if self.field.authenticate(kind, block, bytes(rest[:6]), bytes(rest[6:])):
            self._due_timer = _NEVER
            self._due_authenticated = now_ns + _AUTHENTICATION_NS
        self._next_due = min(self._due_timer, self._due_authenticated)

    def _end_command(self) -> None:
        self._registers[Register.COMMAND] &= 0xF0
        self._registers[Register.COM_IRQ] |= IRQ_IDLE

    def _send(self, *, listen: bool) -> None:
        if not self._fifo:
            return
        registers = self._registers
        framing = registers[Register.BIT_FRAMING]
        frame = radio_frame(bytes(self._fifo), framing & 0x07)
        self._fifo.clear()
        registers[Register.ERROR] = 0
        self._align = framing >> 4 & 0x07
        bits = frame[1]
        now_ns = self._clock.now_ns()
        # Start and end of communication take a bit each; whole bytes carry a parity bit.
        self._due_tx = now_ns + (bits + bits // 8 + 2) * _ETU_NS
        self._due_rx = _NEVER
        answer = self.field.ask(frame, encrypted=bool(registers[Register.STATUS_2] & CRYPTO_ON))
        timer_ends = self._timer_from(self._due_tx)
        if answer is not None and listen:
            self._answer = answer
            starts = self._due_tx + _ANSWER_DELAY_NS + answer.working_us * 1000
            self._due_rx = starts + (answer.bits + answer.bits // 8 + 1) * _ETU_NS
            if starts + 5 * _ETU_NS <= timer_ends:
                timer_ends = _NEVER
        self._due_timer = timer_ends
        self._next_due = self._due_tx

    def _timer_from(self, sent_ns: int) -> int:
        registers = self._registers
        if not registers[Register.T_MODE] & 0x80:
            return _NEVER
        prescaler = (registers[Register.T_MODE] & 0x0F) << 8 | registers[Register.T_PRESCALER]
        reload = registers[Register.T_RELOAD_HIGH] << 8 | registers[Register.T_RELOAD_LOW]
        return sent_ns + (2 * prescaler + 1) * (reload + 1) * 1000 // 13_560 * 1000

    def _settle(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns < self._next_due:
            return
        registers = self._registers
        if self._due_start <= now_ns:
            registers[Register.COMMAND] &= ~POWER_DOWN & 0xFF
            self._due_start = _NEVER
        if self._due_tx <= now_ns:
            registers[Register.COM_IRQ] |= IRQ_TX
            self._due_tx = _NEVER
            if registers[Register.COMMAND] & 0x0F == Command.TRANSMIT:
                self._end_command()
        if self._due_rx <= now_ns:
            self._due_rx = _NEVER
            self._receive()
        if self._due_authenticated <= now_ns:
            self._due_authenticated = _NEVER
            registers[Register.STATUS_2] |= CRYPTO_ON
            self._end_command()
        if self._due_timer <= now_ns:
            registers[Register.COM_IRQ] |= IRQ_TIMER
            self._due_timer = _NEVER
        self._next_due = min(self._due_start, self._due_tx, self._due_rx, self._due_timer, self._due_authenticated)
        if self.on_irq is not None:
            self._drive_irq()

    def _receive(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None or not all(self.field.holds(card) for card in answer.cards):
            # A card pulled out in the middle of its answer leaves a frame that the chip does not take.
            self._due_timer = min(self._due_timer, self._clock.now_ns())
            return
        registers = self._registers
        value = answer.value << self._align
        bits = answer.bits + self._align
        self._fifo += value.to_bytes(bits + 7 >> 3, "little")
        del self._fifo[FIFO_BYTES:]
        registers[Register.CONTROL] = registers[Register.CONTROL] & 0xF8 | bits % 8
        registers[Register.COM_IRQ] |= IRQ_RX
        if answer.garbled:
            registers[Register.ERROR] |= ERROR_PARITY
            registers[Register.COM_IRQ] |= IRQ_ERROR
        if answer.collision is None:
            registers[Register.COLL] = registers[Register.COLL] & 0x80 | 0x20
            return
        position = answer.collision + self._align + 1
        registers[Register.COLL] = registers[Register.COLL] & 0x80 | (position & 0x1F if position <= 32 else 0x20)
        registers[Register.ERROR] |= ERROR_COLLISION
        registers[Register.COM_IRQ] |= IRQ_ERROR
