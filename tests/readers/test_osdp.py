"""The OSDP driver against libosdp's own peripheral device over a pseudo terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.rules import Reason
from gateway.cards.encodings import W26, decode
from gateway.cards.wiegand import FORMATS
from gateway.errors import ConfigError, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardRead, CardRefused, ReaderEvent, ReaderNotice
from tests.readers.contract import FOUR, SEVEN, HeldUpContract, ReaderContract
from tests.readers.serial_bench import PortBench

pytest.importorskip("osdp_sys", reason="needs the extra osdp")

from gateway.simulator.osdp_reader import OsdpDevice

KEY = bytes(range(16))


class OsdpBench(PortBench):
    device: OsdpDevice

    def __init__(
        self,
        key_file: Path | None = None,
        device_key: bytes | None = None,
        device: OsdpDevice | None = None,
        **options: object,
    ) -> None:
        super().__init__(
            "osdp",
            device or OsdpDevice(101, device_key),
            address=101,
            scbk_file=str(key_file or ""),
            **options,
        )

    def enter(self, uid: bytes) -> None:
        self.device.tap(uid)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "gate.scbk"
    path.write_text(KEY.hex())
    return path


@pytest.fixture
def secure(key_file: Path) -> Iterator[OsdpBench]:
    made = OsdpBench(key_file, KEY)
    yield made
    made.close()


class TestContract(HeldUpContract, ReaderContract):
    says_gone = False

    @pytest.fixture
    def bench(self, key_file: Path) -> Iterator[OsdpBench]:
        made = OsdpBench(key_file, KEY)
        yield made
        made.close()


def test_secure_channel_carries_cards_and_is_named(secure: OsdpBench) -> None:
    secure.reader.open()
    assert secure.reader.vitals.detail == "Secure Channel"
    secure.enter(SEVEN)
    [read] = secure.run(400)
    assert isinstance(read, CardRead)
    assert read.number.value == SEVEN


def test_a_reader_with_another_key_is_refused_with_that_reason(key_file: Path) -> None:
    bench = OsdpBench(key_file, bytes(16))
    with pytest.raises(ReaderOffline, match="did not open a Secure Channel"):
        bench.reader.open()
    bench.close()


def test_a_plain_line_works_and_says_that_it_is_plain() -> None:
    bench = OsdpBench()
    bench.reader.open()
    assert "plain" in bench.reader.vitals.detail
    bench.device.tap_wiegand(FOUR)
    bench.device.tap_wiegand(FOUR[:3])
    first, second = bench.run(500)
    assert first.number.value == FOUR
    assert (second.number.projection, second.number.value) == (W26, FOUR[:3])
    bench.close()


def test_words_of_hid_cards_are_numbers_and_damaged_ones_are_refused() -> None:
    bench = OsdpBench()
    bench.reader.open()
    word = FORMATS["h10304"].word(1234, 45678)
    bench.device._report((word << 3).to_bytes(5, "big"), 37)
    bench.device._report(bytes.fromhex("E00401501A2B3C4D"), 64)
    bench.device._report(b"\x00\x00\x00\x00", 26)
    first, second, third = bench.run(600)
    assert first.number == decode("1234-45678", "w37")
    assert (second.number.projection, len(second.number.value)) == ("w64", 8)
    assert isinstance(third, CardRefused)
    assert third.reason == Reason.CARD_FORMAT
    bench.close()


def test_a_reader_of_vicinity_cards_may_say_so_and_only_a_reader_of_mifare_cards_refuses_phones() -> None:
    for technology, data, projection in (
        ("iso15693", "E00401501A2B3C4D", "iso15693"),
        ("125khz", "085A1B2C", "uid"),
        ("iso14443a", "085A1B2C", None),
    ):
        bench = OsdpBench(technology=technology)
        bench.reader.open()
        bench.device.tap(bytes.fromhex(data))
        [event] = bench.run(400)
        assert (event.number.projection if isinstance(event, CardRead) else None) == projection
        bench.close()


def test_a_reader_that_sends_the_last_byte_first_is_turned_round() -> None:
    bench = OsdpBench(bit_order="lsb")
    bench.reader.open()
    bench.device.tap(SEVEN[::-1])
    [read] = bench.run(400)
    assert read.number.value == SEVEN
    bench.close()


def test_signals_reach_led_and_buzzer(secure: OsdpBench) -> None:
    secure.reader.open()
    assert secure.reader.signal(Signal.GRANTED)
    secure.run(600)
    kinds = [command["command"] for command in secure.device.shown]
    import osdp

    assert osdp.Command.LED in kinds
    assert osdp.Command.Buzzer in kinds


def test_a_hung_reader_is_offline_within_two_seconds_and_back_at_once(secure: OsdpBench) -> None:
    secure.reader.open()
    secure.device.mute = True
    begin = time.monotonic()
    with pytest.raises(ReaderOffline, match="stopped answering"):
        secure.run(5000)
    assert time.monotonic() - begin < 3
    secure.reader.close()
    secure.device.mute = False
    secure.reader.open()
    secure.enter(FOUR)
    assert len(secure.run(400)) == 1


def test_a_key_file_that_holds_something_else_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.scbk"
    path.write_text("secret words")
    bench = OsdpBench(path)
    with pytest.raises(ConfigError) as caught:
        bench.reader.open()
    assert "secret" not in str(caught.value)
    bench.close()


def notices(events: list[ReaderEvent]) -> list[tuple[str, str]]:
    return [(event.state, event.detail) for event in events if isinstance(event, ReaderNotice)]


def test_an_opened_case_and_lost_mains_are_told_once_and_shown_until_they_end(secure: OsdpBench) -> None:
    secure.reader.open()
    secure.device.set_local(tampered=True)
    assert notices(secure.run(300)) == [("tampered", "The reader reports tampering.")]
    assert secure.reader.vitals.state == "degraded"
    secure.device.set_local(tampered=True)
    assert secure.run(200) == []
    secure.device.set_local(tampered=True, mains_lost=True)
    assert [state for state, _ in notices(secure.run(300))] == ["mains_lost"]
    assert secure.reader.vitals.detail == "The reader reports tampering. The reader has lost its mains."
    secure.enter(FOUR)
    assert len(secure.run(300)) == 1, "a degraded reader reads on"
    secure.device.set_local()
    assert [state for state, _ in notices(secure.run(300))] == ["tamper_ended", "mains_back"]
    assert (secure.reader.vitals.state, secure.reader.vitals.detail) == ("ready", "Secure Channel")


def test_a_case_that_is_open_when_the_line_comes_back_is_still_shown_and_not_told_twice(secure: OsdpBench) -> None:
    secure.reader.open()
    secure.device.set_local(tampered=True)
    secure.run(300)
    secure.reader.close()
    secure.reader.open()
    assert secure.reader.vitals.state == "degraded"
    assert notices(secure.run(300)) == []


def test_what_happens_to_the_case_while_the_line_is_cut_is_told_when_it_is_back(secure: OsdpBench) -> None:
    secure.reader.open()
    secure.reader.close()
    secure.device.set_local(tampered=True)
    secure.reader.open()
    assert [state for state, _ in notices(secure.run(500))] == ["tampered"]


def test_a_card_that_was_held_to_the_reader_while_the_line_was_cut_is_dropped(secure: OsdpBench) -> None:
    secure.reader.open()
    secure.reader.close()
    secure.enter(FOUR)
    secure.reader.open()
    assert secure.run(300) == []
    assert secure.reader.vitals.counters == {"stale": 1}
    secure.enter(SEVEN)
    assert len(secure.run(300)) == 1


def test_contacts_at_the_reader_are_told_when_they_move() -> None:
    bench = OsdpBench(device=OsdpDevice(101, inputs=2))
    bench.reader.open()
    for levels in ((True, False), (True, True), (False, True)):
        bench.device.set_inputs(*levels)
        bench.run(0)
    told = [state for state, _ in notices(bench.run(600))]
    assert told == ["input_1_on", "input_2_on", "input_1_off"]
    bench.close()


def test_what_is_typed_at_a_keypad_is_counted_and_nowhere_else(secure: OsdpBench) -> None:
    secure.reader.open()
    secure.device.press("73914")
    assert secure.run(300) == []
    assert secure.reader.vitals.counters == {"keys": 5}
    assert "73914" not in repr(secure.reader.vitals)


def test_a_reader_without_lamp_or_buzzer_is_not_asked_for_them_and_stays() -> None:
    bench = OsdpBench(device=OsdpDevice(101, has_lamp=False))
    bench.reader.open()
    assert not bench.reader.signal(Signal.DENIED)
    bench.run(2000)
    # The same command sent without asking first: libosdp takes the refusal for a lost reader.
    panel = bench.reader._panel
    assert panel._submit(panel._buzzer(1))
    with pytest.raises(ReaderOffline):
        bench.run(3000)
    bench.close()


def test_noise_on_the_line_is_a_lost_reader_and_no_text_on_the_console(
    secure: OsdpBench, capfd: pytest.CaptureFixture[str]
) -> None:
    secure.reader.open()
    secure.babble()
    with pytest.raises(ReaderOffline, match="stopped answering"):
        secure.run(5000)
    secure.calm()
    assert capfd.readouterr() == ("", "")
