"""DESFires at the RC522: files in every mode, hidden UIDs, settings that are wrong, answers that were changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.rules import Reason
from gateway.cards.desfire import diversify
from gateway.cards.encodings import decode
from gateway.cards.iso14443 import with_crc
from gateway.cli import main
from gateway.errors import ConfigError
from gateway.readers.base import CardGone, CardRead, CardRefused, ReaderEvent
from gateway.readers.rc522.driver import Options
from gateway.simulator.card_memory import ClassicCard
from gateway.simulator.desfire_card import FULL, MAC, PLAIN, DesfireCard
from gateway.simulator.iso14443_cards import RadioFrame, radio_frame
from tests.readers.contract import FOUR, SEVEN, taps
from tests.readers.test_rc522 import Rc522Bench
from tests.test_config import GATEWAY

AES_KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
AID = 0x3042F5
NUMBER = decode("47711", "number")


def desfire_bench(tmp_path: Path, key: bytes | None = None, **options: object) -> Rc522Bench:
    key_file = tmp_path / "desfire.key"
    key_file.write_text((key or b"").hex())
    wanted: dict[str, object] = {"credential": "desfire-file", "file": 2, "length": 8, **options}
    bench = Rc522Bench(Options(aid="3042F5", key_file=str(key_file) if key else "", **wanted))  # type: ignore[arg-type]
    bench.reader.open()
    return bench


def desfire_card(uid: bytes | None = SEVEN, key: bytes | None = None, mode: int = PLAIN) -> DesfireCard:
    card = DesfireCard(uid, AID, key, true_uid=SEVEN)
    card.files[2] = b"00047711"
    card.modes[2] = mode
    return card


@pytest.mark.parametrize("thinks", [0, 2])
def test_a_free_desfire_file_stands_for_the_card_even_when_it_asks_for_time(tmp_path: Path, thinks: int) -> None:
    bench = desfire_bench(tmp_path)
    card = desfire_card()
    card.thinks = thinks
    bench.chip.field.enter(card)
    [read] = bench.run(500)
    assert isinstance(read, CardRead)
    assert read.number == NUMBER
    assert read.card_type == "desfire"
    bench.leave()
    assert [type(event) for event in bench.run(300)] == [CardGone]


@pytest.mark.parametrize("communication", ["auto", "explicit"])
@pytest.mark.parametrize(("mode", "word"), [(PLAIN, "plain"), (MAC, "mac"), (FULL, "full")])
@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
def test_a_file_behind_a_key_is_read_in_its_own_mode(
    tmp_path: Path, scheme: str, mode: int, word: str, communication: str
) -> None:
    asked = word if communication == "explicit" else "auto"
    bench = desfire_bench(tmp_path, AES_KEY, secure_messaging=scheme, communication=asked)
    bench.chip.field.enter(desfire_card(SEVEN, AES_KEY, mode))
    [read] = bench.run(500)
    assert isinstance(read, CardRead)
    assert read.number == NUMBER
    assert bench.reader.vitals.resets == 0


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
@pytest.mark.parametrize(("mode", "word"), [(PLAIN, "plain"), (FULL, "full")])
def test_a_file_whose_settings_the_card_does_not_tell_needs_the_setting(
    tmp_path: Path, scheme: str, mode: int, word: str
) -> None:
    card = desfire_card(SEVEN, AES_KEY, mode)
    card.tells_settings = False
    bench = desfire_bench(tmp_path, AES_KEY, secure_messaging=scheme)
    bench.chip.field.enter(card)
    [refused] = taps(bench.run(500))
    assert isinstance(refused, CardRefused)
    assert "set communication" in refused.detail
    bench = desfire_bench(tmp_path, AES_KEY, secure_messaging=scheme, communication=word)
    bench.chip.field.enter(card)
    assert isinstance(taps(bench.run(500))[0], CardRead)


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
@pytest.mark.parametrize("status", [0x9D, 0xAE, 0x00])
def test_who_stands_in_between_cannot_talk_the_reader_into_a_plain_answer(
    tmp_path: Path, scheme: str, status: int
) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, secure_messaging=scheme)
    card = desfire_card(SEVEN, AES_KEY, FULL)
    genuine = card._perform

    def lie(command: bytes) -> bytes:
        if command[0] == 0xF5:
            return bytes([status]) + (b"" if status else bytes.fromhex("00 00 00 E0 08 00 00"))
        return b"\x00" + b"00099999" if command[0] == 0xBD else genuine(command)

    card._perform = lie  # type: ignore[method-assign]
    bench.chip.field.enter(card)
    assert [type(event) for event in taps(bench.run(500))] == [CardRefused]


def test_a_file_behind_a_key_of_the_card_itself_is_read_after_authentication(tmp_path: Path) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, system_id="4E585020416275")
    own_key = diversify(AES_KEY, SEVEN, bytes.fromhex("3042F5"), bytes.fromhex("4E585020416275"))
    bench.chip.field.enter(desfire_card(SEVEN, own_key, FULL))
    [read] = bench.run(500)
    assert isinstance(read, CardRead)
    assert read.number == NUMBER


def test_a_card_with_another_key_or_application_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    bench = desfire_bench(tmp_path, AES_KEY)
    for card in (desfire_card(SEVEN, bytes(16)), DesfireCard(SEVEN, 0x123456, AES_KEY)):
        bench.chip.field.enter(card)
        [event] = taps(bench.run(600))
        assert isinstance(event, CardRefused)
        assert event.reason == Reason.CARD_FORMAT
        bench.leave()
        bench.run(300)
    bench.chip.field.enter(desfire_card(SEVEN, AES_KEY))
    assert isinstance(taps(bench.run(600))[0], CardRead)


@pytest.mark.parametrize(
    ("options", "card", "words"),
    [
        ({}, desfire_card(SEVEN, bytes(16)), "key_file"),
        ({"aid": "123456"}, desfire_card(SEVEN, AES_KEY), "aid"),
        ({"file": 3}, desfire_card(SEVEN, AES_KEY), "file"),
        ({"key_number": 1}, desfire_card(SEVEN, AES_KEY), "key_number"),
        ({"length": 16}, desfire_card(SEVEN, AES_KEY), "shorter"),
        ({"communication": "mac"}, desfire_card(SEVEN, AES_KEY), "communication"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence_without_number_or_key(
    tmp_path: Path, options: dict[str, object], card: DesfireCard, words: str
) -> None:
    key_file = tmp_path / "desfire.key"
    key_file.write_text(AES_KEY.hex())
    wanted = {"aid": "3042F5", "file": 2, "length": 8, **options}
    bench = Rc522Bench(Options(credential="desfire-file", key_file=str(key_file), **wanted))  # type: ignore[arg-type]
    bench.reader.open()
    bench.chip.field.enter(card)
    [event] = taps(bench.run(300))
    assert isinstance(event, CardRefused)
    assert words in event.detail
    assert event.detail.count(".") == 1
    for secret in (SEVEN.hex(), AES_KEY.hex(), "47711"):
        assert secret not in event.detail.lower()


# Cards that hide their UID


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
def test_a_card_that_hides_its_uid_is_known_by_its_true_one(tmp_path: Path, scheme: str) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, credential="desfire-uid", secure_messaging=scheme)
    for _ in range(2):
        bench.chip.field.enter(desfire_card(None, AES_KEY))
        [read] = bench.run(300)
        assert isinstance(read, CardRead)
        assert (read.number.projection, read.number.value) == ("uid", SEVEN)
        bench.leave()
        assert [type(event) for event in bench.run(300)] == [CardGone]


def test_a_card_that_shows_its_uid_is_read_too_and_a_copy_of_another_is_refused(tmp_path: Path) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, credential="desfire-uid")
    bench.chip.field.enter(desfire_card(SEVEN, AES_KEY))
    [read] = bench.run(300)
    assert isinstance(read, CardRead)
    bench.leave()
    bench.run(300)
    bench.chip.field.enter(desfire_card(bytes.fromhex("04 11 22 33 44 55 66"), AES_KEY))
    [refused] = taps(bench.run(300))
    assert isinstance(refused, CardRefused)
    assert "copy" in refused.detail


def test_an_own_key_cannot_be_found_for_a_card_that_hides_its_uid(tmp_path: Path) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, system_id="4E5850")
    bench.chip.field.enter(desfire_card(None, AES_KEY))
    [refused] = taps(bench.run(300))
    assert isinstance(refused, CardRefused)
    assert "desfire-uid" in refused.detail


def test_a_classic_at_a_reader_for_hidden_uids_is_refused(tmp_path: Path) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, credential="desfire-uid")
    bench.chip.field.enter(ClassicCard(FOUR))
    [refused] = taps(bench.run(300))
    assert isinstance(refused, CardRefused)
    assert "another kind" in refused.detail


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"secure_messaging": "ev3"}, "secure_messaging"),
        ({"communication": "loud"}, "communication"),
        ({"credential": "desfire-file", "communication": "full"}, "communication"),
        ({"credential": "desfire-uid"}, "key_file"),
        ({"credential": "desfire-uid", "key_file": "x", "system_id": "4E"}, "system_id"),
    ],
)
def test_settings_that_do_not_go_together_are_named(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Options(**options)  # type: ignore[arg-type]
    assert [problem.split(":")[0] for problem in caught.value.problems] == [key]


def test_check_config_says_line_and_key_of_a_desfire_setting_and_never_the_key_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.key").write_text("00" * 32)
    secret = tmp_path / "desfire.key"
    secret.write_text(AES_KEY.hex())
    path = tmp_path / "gateway.toml"
    lines = f'credential = "desfire-uid"\nkey_file = "{secret}"\nsecure_messaging = "ev9"\nsystem_id = "4E58"'
    path.write_text(GATEWAY.replace("speed_hz = 4000000", lines))
    assert main(["check-config", str(path)]) == 2
    said = capsys.readouterr().err
    assert "gateway.toml:21: reader.0.secure_messaging: must be one of ev1, ev2" in said
    assert "gateway.toml:22: reader.0.system_id: desfire-uid needs one key for all cards" in said
    assert AES_KEY.hex() not in said.lower()
    path.write_text(path.read_text().replace("ev9", "ev1").replace('system_id = "4E58"', 'communication = "auto"'))
    assert main(["check-config", str(path)]) == 0


# An answer that somebody changed on its way


@pytest.mark.parametrize(("scheme", "mode"), [("ev1", PLAIN), ("ev1", MAC), ("ev1", FULL), ("ev2", MAC), ("ev2", FULL)])
@pytest.mark.parametrize("place", [1, 8, 15, -1])
def test_a_changed_answer_is_refused_and_never_another_number(
    tmp_path: Path, scheme: str, mode: int, place: int
) -> None:
    bench = desfire_bench(tmp_path, AES_KEY, secure_messaging=scheme)
    card = desfire_card(SEVEN, AES_KEY, mode)
    original = card._perform

    def change(command: bytes) -> bytes:
        answer = bytearray(original(command))
        if command[0] == 0xBD:
            answer[place] ^= 0x01
        return bytes(answer)

    card._perform = change  # type: ignore[method-assign]
    bench.chip.field.enter(card)
    [refused] = taps(bench.run(500))
    assert isinstance(refused, CardRefused)
    assert "session" in refused.detail


POLL_MS = 100


def longest_poll_ms(bench: Rc522Bench, milliseconds: float, events: list[ReaderEvent] | None = None) -> float:
    """Own the reader for a while; returns the time of its longest poll on the clock of the bench."""
    longest_ns = 0
    end_ns = bench.now_ns() + milliseconds * 1e6
    while bench.now_ns() < end_ns:
        begin_ns = bench.now_ns()
        polled = bench.reader.poll()
        longest_ns = max(longest_ns, bench.now_ns() - begin_ns)
        if events is not None:
            events += polled
        bench.clock.sleep(bench.reader.pause_seconds)
    return longest_ns / 1e6


class Noisy(DesfireCard):
    """A card one of whose frames arrives with a flipped bit that its CRC_A does not show."""

    def __init__(self, turn: int, place: int, mode: int) -> None:
        super().__init__(SEVEN, AID, AES_KEY)
        self.files[2] = b"00047711"
        self.modes[2] = mode
        self._turn, self._place = turn, place

    def command(self, data: bytes) -> RadioFrame | None:
        answer = super().command(data)
        self._turn -= 1
        if answer is None or self._turn != 0:
            return answer
        frame = bytearray(answer[0].to_bytes(answer[1] // 8, "little")[:-2])
        frame[self._place // 8 % len(frame)] ^= 1 << self._place % 8
        return radio_frame(with_crc(bytes(frame)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from([("ev1", PLAIN), ("ev1", MAC), ("ev1", FULL), ("ev2", MAC), ("ev2", FULL)]),
    st.integers(1, 8),
    st.integers(0, 400),
)
def test_no_flipped_bit_of_any_frame_becomes_another_number_or_holds_a_poll(
    tmp_path: Path, protected: tuple[str, int], turn: int, place: int
) -> None:
    scheme, mode = protected
    bench = desfire_bench(tmp_path, AES_KEY, secure_messaging=scheme)
    bench.chip.field.enter(Noisy(turn, place, mode))
    events: list[ReaderEvent] = []
    assert longest_poll_ms(bench, 150, events) < POLL_MS
    assert {event.number for event in events if isinstance(event, CardRead)} <= {NUMBER}
    assert events
    assert bench.reader.vitals.resets == 0
