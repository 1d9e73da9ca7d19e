"""TWN4, PN532 and SL500: one contract, and the faults such readers show in the field."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.access.rules import Reason
from gateway.errors import ConfigError, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers import pn532, sl500, twn4
from gateway.readers.base import CardGone, CardRead, CardRefused
from gateway.simulator.iso14443_cards import DESFIRE
from gateway.simulator.polled_readers import Pn532Device, Sl500Device, Twn4Device
from tests.readers.contract import FOUR, OTHER, SEVEN, HeldUpContract, ReaderContract, Stopwatch, taps
from tests.readers.serial_bench import AskedBench


def built(driver: str, **options: object) -> AskedBench:
    device = {"twn4": Twn4Device, "pn532": Pn532Device, "sl500": Sl500Device}[driver]()
    return AskedBench(driver, device, rearm_ms=100, **options)


@pytest.fixture(params=["twn4", "pn532", "sl500"])
def bench(request: pytest.FixtureRequest) -> Iterator[AskedBench]:
    made = built(request.param)
    made.reader.open()
    yield made
    made.close()


class TestContract(HeldUpContract, ReaderContract):
    @pytest.fixture(params=["twn4", "pn532", "sl500"])
    def bench(self, request: pytest.FixtureRequest) -> Iterator[AskedBench]:
        made = built(request.param)
        yield made
        made.close()


def test_answers_in_two_pieces_are_read(bench: AskedBench) -> None:
    bench.device.split_seconds = 0.005
    bench.enter(FOUR)
    assert len(taps(bench.run(400))) == 1


def test_noise_before_an_answer_neither_makes_a_card_nor_kills_the_reader(bench: AskedBench) -> None:
    for noise in (b"\x00", b"\xaa\xbb\x30", b"\x00\xff\x30\xd0", b"\xff\xfe\x80"):
        bench.device.noise = noise
        assert bench.run(150) == []
    bench.enter(OTHER)
    [read] = taps(bench.run(400))
    assert isinstance(read, CardRead)
    assert read.number.value == OTHER


def test_a_reader_that_is_stuck_is_offline_and_taken_up_again_when_it_answers(bench: AskedBench) -> None:
    bench.device.mute = True
    with pytest.raises(ReaderOffline, match="stopped answering"):
        bench.run(5000)
    bench.reader.close()
    with pytest.raises(ReaderOffline, match="does not answer"):
        bench.reader.open()
    bench.device.mute = False
    bench.reader.open()
    bench.enter(FOUR)
    assert len(taps(bench.run(400))) == 1


@pytest.mark.parametrize("driver", ["twn4", "sl500"])
def test_a_signal_is_shown_by_the_reader_with_its_next_looks(driver: str) -> None:
    bench = built(driver)
    bench.reader.open()
    bench.run(100)
    bench.device.shown.clear()
    assert bench.reader.signal(Signal.DENIED)
    bench.run(500)
    assert len(bench.device.shown) >= 4
    bench.close()


def test_an_sl500_names_its_firmware_and_reads_seven_bytes_with_its_own_command_for_them() -> None:
    bench = built("sl500")
    bench.reader.open()
    assert bench.reader.vitals.firmware == "SL500F-0608"
    for uid in (SEVEN, SEVEN[:6] + b"\xaa", FOUR, b"\xaa\xaa\xaa\xaa"):
        bench.enter(uid)
        [read] = taps(bench.run(400))
        assert read.number.value == uid
        bench.leave()
        bench.run(300)
    bench.close()


def test_an_sl500_whose_firmware_knows_four_bytes_only_refuses_a_longer_card_once_and_stays() -> None:
    bench = built("sl500")
    bench.device.knows_seven = False
    bench.reader.open()
    bench.enter(SEVEN)
    [refused] = taps(bench.run(1500))
    assert isinstance(refused, CardRefused)
    assert refused.reason == Reason.CARD_FORMAT
    assert "cut 7-byte UID" in refused.detail
    assert "rf_ul_select" in bench.reader.vitals.detail
    bench.leave()
    bench.run(400)
    bench.enter(FOUR)
    [read] = taps(bench.run(400))
    assert read.number.value == FOUR
    bench.close()


def test_a_seven_byte_card_that_comes_slowly_into_the_field_of_an_sl500_is_not_refused_first() -> None:
    bench = built("sl500")
    bench.reader.open()
    bench.device.drops_second_level = True
    bench.enter(SEVEN)
    for _ in range(2):
        assert bench.reader.poll() == []
    bench.device.drops_second_level = False
    [read] = taps(bench.run(400))
    assert isinstance(read, CardRead)
    assert read.number.value == SEVEN
    bench.close()


def test_a_pn532_left_in_the_middle_of_a_search_by_a_killed_program_is_aborted() -> None:
    bench = built("pn532")
    bench.device.awake = bench.device.busy = True
    bench.reader.open()
    assert bench.reader.vitals.firmware == "PN532 v1.6"
    bench.enter(SEVEN)
    assert len(taps(bench.run(300))) == 1
    bench.close()


def test_a_pn532_card_that_answers_once_a_field_is_present_at_every_look() -> None:
    bench = built("pn532")
    bench.reader.open()
    bench.device.enter(SEVEN, DESFIRE)
    events = bench.run(1000)
    assert [type(event) for event in events] == [CardRead]
    assert events[0].card_type == "desfire"
    bench.leave()
    assert [type(event) for event in bench.run(500)] == [CardGone]
    bench.close()


def test_a_phone_whose_number_changes_with_the_field_is_refused_once() -> None:
    bench = built("pn532")
    bench.reader.open()
    events = []
    for number in range(5):
        bench.leave()
        bench.enter(bytes([0x08, 1, 2, number]))
        events += bench.run(60)
    [event] = taps(events)
    assert isinstance(event, CardRefused)
    assert event.reason == Reason.CARD_RANDOM_UID
    bench.close()


@pytest.mark.parametrize("options", [twn4.Options, pn532.Options, sl500.Options])
def test_wrong_settings_are_named(options: type) -> None:
    with pytest.raises(ConfigError) as caught:
        options(baud=1, rearm_ms=1)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["baud", "rearm_ms"]


def test_the_stopwatch_catches_a_driver_that_reads_until_the_noise_ends() -> None:
    bench = built("twn4")
    transport = bench.reader._transport

    def drain() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            transport.read(0.01)

    bench.reader._drain = drain
    watch = Stopwatch(bench.reader)
    watch.open()
    bench.babble()
    watch.run(1.0)
    with pytest.raises(AssertionError):
        watch.check()
    bench.close()


class OtherFirmware(Twn4Device):
    """A TWN4 that knows none of the functions it is asked for."""

    def _answer(self, request: bytes) -> bytes:
        del request
        return b"\x01"


def test_a_twn4_with_other_firmware_is_offline_with_the_reason_and_no_fault_of_the_driver() -> None:
    bench = AskedBench("twn4", OtherFirmware(), rearm_ms=100)
    with pytest.raises(
        ReaderOffline, match="cannot be set up: The reader answers with error 1; it needs Simple Protocol"
    ):
        bench.reader.open()
    assert bench.reader.vitals.state == "offline"
    bench.close()


# Elatec's example for ISO 15693, and invented numbers of the other kinds.
@pytest.mark.parametrize(
    ("technology", "tag_type", "raw", "bits", "number"),
    [
        ("iso15693", 0x82, "E00700001F8831FF", 0, ("iso15693", "E00700001F8831FF")),
        ("legic", 0x83, "A1B2C3D4", 0, ("legic", "A1B2C3D4")),
        ("iclass", 0x84, "F8FF12E0014E7A03", 0, ("iclass", "F8FF12E0014E7A03")),
        ("felica", 0x85, "012E4CD77A1B9F02", 0, ("felica", "012E4CD77A1B9F02")),
        ("em4100", 0x40, "1E00A9C3F7", 0, ("em4100", "1E00A9C3F7")),
        ("hid-prox", 0x49, "808001C0", 26, ("w26", "010003")),
    ],
)
def test_a_twn4_reads_the_kinds_that_it_is_set_to(
    technology: str, tag_type: int, raw: str, bits: int, number: tuple[str, str]
) -> None:
    for technologies in ([technology, "iso14443a"], ["iso14443a"]):
        device = Twn4Device()
        device.tag_type, device.bits = tag_type, bits
        bench = AskedBench("twn4", device, technologies=technologies)
        bench.reader.open()
        bench.enter(bytes.fromhex(raw))
        reads = [(event.number.projection, event.number.value.hex().upper()) for event in bench.run(150)]
        assert reads == ([number] if technology in technologies else [])
        bench.close()


def test_a_twn4_that_is_set_to_an_unknown_kind_is_refused() -> None:
    for technologies in ([], ["mifare"]):
        with pytest.raises(ConfigError, match="technologies"):
            twn4.Options(technologies=technologies)


def test_a_reader_whose_answers_another_program_takes_is_lost_with_that_reason() -> None:
    device = Twn4Device()
    bench = AskedBench("twn4", device)
    bench.reader._silences = 3
    bench.reader.open()
    other = os.open(device.path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    bench.enter(FOUR)
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            # As a program does that waits for the port: it wakes with the driver and not after it.
            if select.select([other], [], [], 0.05)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.read(other, 4096)

    thief = threading.Thread(target=take)
    thief.start()
    try:
        with pytest.raises(ReaderOffline, match="Another program"):
            bench.run(20_000)
    finally:
        stop.set()
        thief.join()
        os.close(other)
        bench.close()
