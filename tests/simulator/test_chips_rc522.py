"""The emulated MFRC522 keeps to the data sheet where drivers lean on it."""

from __future__ import annotations

import pytest

from gateway.cards.iso14443 import with_crc
from gateway.protocols.mfrc522 import CONFIGURATION, Command, Register, gather, write
from gateway.simulator import iso14443_cards as cards
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import VirtualClock

FOUR = bytes.fromhex("DEADBEEF")


class Wire:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.chip = Mfrc522Chip(self.clock)
        self.clock.sleep(0.001)

    def read(self, register: int) -> int:
        return self.chip.transfer(gather((register,)))[1]

    def write(self, register: int, *values: int) -> None:
        self.chip.transfer(write(register, *values))

    def set_up(self) -> None:
        for register, value in CONFIGURATION:
            self.write(register, value)
        self.write(Register.TX_CONTROL, 0x83)

    def send(self, data: bytes, last_bits: int = 0, wait_us: float = 2000) -> bytes:
        self.write(Register.COMMAND, Command.IDLE)
        self.write(Register.FIFO_LEVEL, 0x80)
        self.write(Register.FIFO_DATA, *data)
        self.write(Register.COM_IRQ, 0x7F)
        self.write(Register.BIT_FRAMING, last_bits)
        self.write(Register.COMMAND, Command.TRANSCEIVE)
        self.write(Register.BIT_FRAMING, 0x80 | last_bits)
        self.clock.sleep(wait_us / 1e6)
        return self.chip.transfer(gather([Register.FIFO_DATA] * self.read(Register.FIFO_LEVEL)))[1:]


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    made.set_up()
    return made


def test_reset_values_and_start_up() -> None:
    wire = Wire()
    wire.write(Register.COMMAND, Command.SOFT_RESET)
    assert wire.read(Register.COMMAND) & 0x10
    wire.clock.sleep(0.001)
    assert wire.read(Register.COMMAND) == 0x20
    assert wire.read(Register.MODE) == 0x3F
    assert wire.read(Register.TX_CONTROL) == 0x80
    assert wire.read(Register.VERSION) == 0x92


def test_one_transfer_reads_many_registers_with_the_answer_one_byte_late(wire: Wire) -> None:
    answer = wire.chip.transfer(gather((Register.VERSION, Register.MODE, Register.T_PRESCALER)))
    assert answer == bytes([0, 0x92, 0x3D, 0xA9])


def test_a_burst_fills_the_fifo_and_a_burst_empties_it(wire: Wire) -> None:
    wire.write(Register.FIFO_DATA, 1, 2, 3)
    assert wire.read(Register.FIFO_LEVEL) == 3
    assert wire.chip.transfer(gather([Register.FIFO_DATA] * 3))[1:] == b"\x01\x02\x03"
    assert wire.read(Register.FIFO_LEVEL) == 0


def test_the_crc_unit_agrees_with_the_table(wire: Wire) -> None:
    wire.write(Register.FIFO_DATA, 0x50, 0x00)
    wire.write(Register.COMMAND, Command.CALC_CRC)
    assert wire.read(Register.DIV_IRQ) & 0x04
    assert bytes([wire.read(0x22), wire.read(0x21)]) == b"\x57\xcd"


def test_without_a_card_only_the_timer_speaks(wire: Wire) -> None:
    assert wire.send(b"\x26", 7) == b""
    irq = wire.read(Register.COM_IRQ)
    assert irq & 0x01
    assert not irq & 0x20


def test_an_answer_takes_its_time_on_air(wire: Wire) -> None:
    wire.chip.field.enter(cards.classic_1k(FOUR))
    assert wire.send(b"\x26", 7, wait_us=340) == b""
    wire.clock.sleep(40e-6)
    assert wire.read(Register.FIFO_LEVEL) == 2


def test_without_antenna_no_card_answers(wire: Wire) -> None:
    wire.chip.field.enter(cards.classic_1k(FOUR))
    wire.write(Register.TX_CONTROL, 0x80)
    assert wire.send(b"\x26", 7) == b""
    wire.write(Register.TX_CONTROL, 0x83)
    assert wire.send(b"\x26", 7) == b"\x04\x00"


def test_a_card_keeps_quiet_after_halt_until_it_is_woken(wire: Wire) -> None:
    wire.chip.field.enter(cards.classic_1k(FOUR))
    assert wire.send(b"\x26", 7) == b"\x04\x00"
    assert wire.send(b"\x93\x20") == FOUR + b"\x22"
    assert wire.send(with_crc(b"\x93\x70" + FOUR + b"\x22")) == with_crc(b"\x08")
    assert wire.send(with_crc(b"\x50\x00")) == b""
    assert wire.send(b"\x26", 7) == b""
    assert wire.send(b"\x52", 7) == b"\x04\x00"


def test_a_card_in_ready_swallows_the_next_request(wire: Wire) -> None:
    wire.chip.field.enter(cards.classic_1k(FOUR))
    assert [wire.send(b"\x26", 7) != b"" for _ in range(4)] == [True, False, True, False]


def test_two_cards_collide_at_their_first_different_bit(wire: Wire) -> None:
    wire.chip.field.enter(cards.classic_1k(bytes.fromhex("01000000")))
    wire.chip.field.enter(cards.classic_1k(bytes.fromhex("01040000")))
    assert wire.send(b"\x26", 7) == b"\x04\x00"
    assert wire.send(b"\x93\x20") == b"\x01\x00\x00\x00\x00"
    assert wire.read(Register.ERROR) & 0x08
    assert wire.read(Register.COLL) & 0x3F == 11
    # Eleven bits known: the card with a one in the eleventh answers with the rest, aligned to the third bit.
    wire.write(Register.BIT_FRAMING, 0x33)
    wire.write(Register.COMMAND, Command.IDLE)
    wire.write(Register.FIFO_LEVEL, 0x80)
    wire.write(Register.FIFO_DATA, 0x93, 0x33, 0x01, 0x04)
    wire.write(Register.COMMAND, Command.TRANSCEIVE)
    wire.write(Register.BIT_FRAMING, 0xB3)
    wire.clock.sleep(0.002)
    assert wire.chip.transfer(gather([Register.FIFO_DATA] * 4))[1:] == b"\x00\x00\x00\x05"


def test_a_card_pulled_out_during_its_answer_is_not_received(wire: Wire) -> None:
    wire.chip.field.enter(cards.classic_1k(FOUR))
    assert wire.send(b"\x26", 7, wait_us=100) == b""
    wire.chip.field.leave()
    wire.clock.sleep(0.002)
    assert wire.read(Register.FIFO_LEVEL) == 0
    assert wire.read(Register.COM_IRQ) & 0x21 == 0x01


def test_a_start_bit_left_over_sends_the_next_frame_too_early(wire: Wire) -> None:
    wire.send(b"\x26", 7)
    wire.write(Register.FIFO_DATA, 0x93, 0x20)
    wire.write(Register.COMMAND, Command.TRANSCEIVE)
    assert wire.read(Register.FIFO_LEVEL) == 0


def test_a_phone_draws_a_new_number_at_every_entry() -> None:
    wire = Wire()
    phone = cards.phone()
    drawn = set()
    for _ in range(4):
        wire.chip.field.enter(phone)
        drawn.add(phone.uid)
        wire.chip.field.leave()
    assert len(drawn) == 4
    assert all(uid[0] == 0x08 for uid in drawn)


def test_a_card_says_nothing_before_it_has_powered_up(wire: Wire) -> None:
    card = cards.classic_1k(FOUR)
    card.power_up_us = 3000
    wire.chip.field.enter(card)
    assert wire.send(b"\x26", 7, wait_us=500) == b""
    wire.clock.sleep(0.003)
    assert wire.send(b"\x26", 7) == b"\x04\x00"


def test_the_interrupt_pin_falls_when_an_enabled_bit_ends_the_frame_and_not_before(wire: Wire) -> None:
    edges: list[int] = []
    wire.chip.on_irq = lambda: edges.append(wire.clock.now_ns())
    wire.send(b"\x26", 7)
    assert edges == []
    assert wire.chip.irq_due_ns is None
    wire.write(Register.COM_IEN, 0x81)
    assert len(edges) == 1  # the timer's bit still stands from the frame before
    begin_ns = wire.clock.now_ns()
    wire.send(b"\x26", 7, wait_us=0)
    due_ns = wire.chip.irq_due_ns
    assert due_ns is not None
    while (due_ns := wire.chip.irq_due_ns) is not None:
        wire.clock.sleep(max(0, due_ns - wire.clock.now_ns()) / 1e9 + 1e-7)
        wire.chip.settle()
    assert len(edges) == 2
    assert 250e3 < edges[1] - begin_ns < 400e3


def test_two_coupled_fields_spoil_answers_only_while_both_are_on() -> None:
    near, far = Wire(), Wire()
    near.set_up()
    far.set_up()
    near.chip.field.couple(far.chip.field)
    near.chip.field.enter(cards.classic_1k(FOUR))
    spoilt = [near.send(b"\x52", 7) != b"\x04\x00" for _ in range(20)]
    assert all(spoilt)
    far.write(Register.TX_CONTROL, 0x80)
    near.send(b"\x52", 7)
    assert b"\x04\x00" in {near.send(b"\x52", 7), near.send(b"\x52", 7)}
