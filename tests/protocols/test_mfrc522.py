"""Frames and answers of the MFRC522 as bytes, without a chip."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards.iso14443 import bcc, with_crc
from gateway.protocols import mfrc522
from gateway.protocols.mfrc522 import Answer, Health, Register
from gateway.protocols.selection import Selection

RX = mfrc522.IRQ_RX | mfrc522.IRQ_TX


def hexed(frame: mfrc522.Frame) -> list[str]:
    return [step.hex(" ") for step, _ in frame.steps]


def test_wake_up_as_it_goes_over_the_wire() -> None:
    frame = mfrc522.wake_up(flush=False)
    assert hexed(frame) == [
        "02 00",  # Command = Idle
        "12 52",  # FIFO = WUPA
        "08 7f",  # clear interrupts
        "1a 07",  # seven bits, not yet sent
        "02 0c",  # Transceive
        "1a 87",  # StartSend
        "88 8c 94 98 9c 92 92 00",  # ComIrq Error FIFOLevel Control Coll FIFO FIFO
    ]
    assert [delay for _, delay in frame.steps] == [0, 0, 0, 0, 0, 345, 0]


def test_an_announced_frame_enables_the_pin_after_the_old_bits_are_cleared_and_frees_it_before_the_answer() -> None:
    frame = mfrc522.announced(mfrc522.wake_up(flush=False), mfrc522.IRQ_RX | mfrc522.IRQ_TIMER)
    assert hexed(frame)[2:] == [
        "08 7f",  # clear interrupts
        "1a 07",
        "02 0c",
        "04 a1",  # ComIEn: inverted pin, Rx and timer
        "1a 87",  # StartSend
        "04 80",  # ComIEn: inverted pin, nothing
        "88 8c 94 98 9c 92 92 00",
    ]
    assert frame.steps[frame.data_at][0] == bytes.fromhex("1252")
    assert frame.steps[frame.read_at][0][0] == 0x88


def test_select_carries_check_byte_and_crc() -> None:
    frame = mfrc522.select(0, bytes.fromhex("DEADBEEF"))
    assert (
        frame.steps[frame.data_at][0]
        == bytes.fromhex("12 93 70 DE AD BE EF 22") + with_crc(bytes.fromhex("93 70 DE AD BE EF 22"))[-2:]
    )


def test_anticollision_with_twelve_known_bits_sends_half_a_byte_and_aligns_the_answer() -> None:
    frame = mfrc522.anticollision(1, 0xABC, 12)
    assert frame.steps[frame.data_at][0] == bytes.fromhex("12 95 34 BC 0A")
    assert frame.steps[frame.read_at - 1][0] == bytes([Register.BIT_FRAMING << 1, 0x80 | 0x44])


def test_a_halt_before_a_wake_up_is_one_chain() -> None:
    joined = mfrc522.join(mfrc522.halt(), mfrc522.wake_up())
    assert joined.steps == mfrc522.halt().steps + mfrc522.wake_up().steps
    assert joined.steps[joined.data_at][0] == bytes.fromhex("12 52")
    assert joined.steps[joined.read_at][0][0] == 0x88


def received(irq: int, error: int = 0, data: bytes = b"", control: int = 0x10, coll: int = 0x20) -> list[int]:
    return [0, irq, error, len(data), control, coll, *data, *bytes(5 - len(data))]


def test_an_answer_is_cut_to_what_the_fifo_held() -> None:
    answer = Answer.parse(received(RX, data=b"\x04\x00"))
    assert answer.data == b"\x04\x00"
    assert answer.clean
    assert not answer.pending
    assert not answer.silent


def test_silence_and_waiting_are_told_apart() -> None:
    assert Answer.parse(received(mfrc522.IRQ_TIMER | mfrc522.IRQ_TX)).silent
    assert Answer.parse(received(mfrc522.IRQ_TX)).pending


@pytest.mark.parametrize(("coll", "position"), [(0x01, 0), (0x08, 7), (0x00, 31), (0x20, None)])
def test_collision_positions_count_from_one_and_zero_is_the_thirty_second(coll: int, position: int | None) -> None:
    assert Answer.parse(received(RX, mfrc522.ERROR_COLLISION, coll=coll)).collision == position


def five(part: bytes) -> bytes:
    return part + bytes([bcc(part)])


def feed(walk: Selection, data: bytes) -> None:
    walk.feed(Answer.parse(received(RX, data=data)))


def test_a_seven_byte_uid_is_known_only_after_both_levels_and_their_check_bytes() -> None:
    walk = Selection()
    feed(walk, five(bytes.fromhex("8804A1B2")))
    assert walk.part == bytes.fromhex("8804A1B2")
    feed(walk, with_crc(b"\x04"))
    assert (walk.sak, walk.level, walk.uid) == (None, 1, bytes.fromhex("04A1B2"))
    feed(walk, five(bytes.fromhex("C3D4E5F6")))
    feed(walk, with_crc(b"\x08"))
    assert (walk.sak, walk.uid) == (0x08, bytes.fromhex("04A1B2C3D4E5F6"))


@pytest.mark.parametrize(
    "answers",
    [
        [five(bytes.fromhex("DEADBEEF"))[:4] + b"\x00"],
        [five(bytes.fromhex("DEADBEEF"))[:4]],
        [five(bytes.fromhex("DEADBEEF")), b"\x08\x00\x00"],
        [five(bytes.fromhex("DEADBEEF")), with_crc(b"\x04")],
        [five(bytes.fromhex("8804A1B2")), with_crc(b"\x08")],
        [b""],
    ],
    ids=["check byte", "short", "crc of SAK", "cascade without tag", "tag without cascade", "nothing"],
)
def test_a_damaged_answer_never_becomes_a_card(answers: list[bytes]) -> None:
    walk = Selection()
    for answer in answers:
        feed(walk, answer)
    assert walk.failed
    assert walk.sak is None


@given(st.lists(st.binary(max_size=5), max_size=8), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_no_answer_makes_the_walk_raise(answers: list[bytes], irq: int, error: int, coll: int) -> None:
    walk = Selection()
    for data in answers:
        if walk.failed or walk.sak is not None:
            break
        walk.frame()
        walk.feed(Answer.parse(received(irq, error, data, coll=coll)))


HEALTHY = [0, 0x92, 0x83, 0x20, 0x00, *(value for _, value in mfrc522.CONFIGURATION)]


def test_a_chip_that_holds_its_settings_is_healthy() -> None:
    assert Health.parse(HEALTHY).fault == ""


@pytest.mark.parametrize("place", range(2, len(HEALTHY)))
def test_each_lost_setting_is_a_fault(place: int) -> None:
    values = list(HEALTHY)
    wrong = {2: 0x80, 3: 0x30, 4: 0x08}.get(place, values[place] ^ 0x80)
    values[place] = wrong
    assert Health.parse(values).fault


@pytest.mark.parametrize("level", [0x00, 0xFF])
def test_a_dead_line_is_no_chip(level: int) -> None:
    assert Health.parse([level] * len(HEALTHY)).bus_dead


def test_prepared_frames_of_all_kinds_fit_the_fifo() -> None:
    for level, bits in itertools.product(range(3), range(33)):
        frame = mfrc522.anticollision(level, 0, bits)
        assert len(frame.steps[frame.data_at][0]) - 1 <= mfrc522.FIFO_BYTES
