"""DESFire key diversification, status words and file settings, against the vectors NXP and the IETF publish."""

from __future__ import annotations

import pytest

from gateway.cards.desfire import FileSettings, Mode, aes_cmac, body_of, diversify, truncated_mac
from gateway.errors import BadRecord


def test_cmac_of_rfc_4493_example_3() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411")
    assert aes_cmac(key, message).hex() == "dfa66747de9ae63030ca32611497c827"


def test_diversified_key_of_an10922() -> None:
    key = diversify(
        bytes.fromhex("00112233445566778899AABBCCDDEEFF"),
        bytes.fromhex("04782E21801D80"),
        bytes.fromhex("3042F5"),
        bytes.fromhex("4E585020416275"),
    )
    assert key.hex().upper() == "A8DD63A3B89D54B37CA802473FDA9175"


def test_a_long_diversification_input_is_taken_whole_and_a_longer_one_refused() -> None:
    assert diversify(bytes(16), bytes(7), bytes(3), bytes(21)) == aes_cmac(bytes(16), b"\x01" + bytes(31))
    with pytest.raises(BadRecord):
        diversify(bytes(16), bytes(7), bytes(3), bytes(22))


def test_a_message_code_of_an12196_is_cut_to_its_odd_bytes() -> None:
    # SUN example: zero keys, UID 04DE5F1EACC040, counter 61.
    session = aes_cmac(bytes(16), bytes.fromhex("3CC300010080 04DE5F1EACC040 3D0000".replace(" ", "")))
    assert truncated_mac(aes_cmac(session, b"")).hex().upper() == "94EED9EE65337086"


def test_file_settings_say_how_content_travels_and_who_may_read() -> None:
    # As an EV1 card answered: encrypted, keys 1 and 5 may read, 100 bytes.
    settings = FileSettings.parse(bytes.fromhex("00 03 54 12 64 00 00"))
    assert settings == FileSettings(Mode.FULL, (1, 5), 100)
    assert settings.mode_for(5) is Mode.FULL
    with pytest.raises(BadRecord, match="key_number"):
        settings.mode_for(2)


def test_a_file_that_everybody_may_read_comes_plain_to_a_key_without_a_right_of_its_own() -> None:
    settings = FileSettings.parse(bytes.fromhex("00 03 F0 E0 10 00 00"))
    assert settings.mode_for(3) is Mode.PLAIN


@pytest.mark.parametrize(("body", "words"), [("0003541264", "cut short"), ("02035412640000", "plain data")])
def test_settings_of_another_file_or_without_their_end_are_refused(body: str, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        FileSettings.parse(bytes.fromhex(body))


@pytest.mark.parametrize(
    ("status", "setting"),
    [(0x9D, "key_number"), (0xA0, "aid"), (0xAE, "key_file"), (0xF0, "file"), (0x7E, "communication")],
)
def test_a_refusal_says_which_setting_to_look_at(status: int, setting: str) -> None:
    with pytest.raises(BadRecord, match=setting):
        body_of(bytes([status]))


def test_an_unknown_status_is_still_a_sentence() -> None:
    with pytest.raises(BadRecord, match="status CA"):
        body_of(b"\xca")
    with pytest.raises(BadRecord, match="empty"):
        body_of(b"")
