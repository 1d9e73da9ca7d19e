"""DESFire key diversification and EV2 authentication against the vectors NXP and the IETF publish."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.cards.desfire import Ev2First, aes_cmac, diversify, session_keys, truncated_mac
from gateway.errors import BadRecord

RND_A = bytes.fromhex("13C5DB8A5930439FC3DEF9A4C675360F")
RND_B = bytes.fromhex("B9E2FC789B64BF237CCCAA20EC7E6E48")
ENCRYPTION, MAC = "1309C877509E5A215007FF0ED19CA564", "4C6626F5E72EA694202139295C7A7FC7"


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


def test_session_keys_of_an12196() -> None:
    assert [key.hex().upper() for key in session_keys(bytes(16), RND_A, RND_B)] == [ENCRYPTION, MAC]


def _chain(data: bytes, *, decrypt: bool = False) -> bytes:
    cipher = Cipher(algorithms.AES(bytes(16)), modes.CBC(bytes(16)))
    step = cipher.decryptor() if decrypt else cipher.encryptor()
    return step.update(data) + step.finalize()


def test_both_sides_of_ev2_authentication_come_to_the_published_keys() -> None:
    reader = Ev2First(bytes(16), RND_A)
    sent = _chain(reader.answer(_chain(RND_B)), decrypt=True)
    assert sent == RND_A + RND_B[1:] + RND_B[:1]
    session = reader.finish(_chain(bytes.fromhex("9D00C4DF") + RND_A[1:] + RND_A[:1] + bytes(12)))
    assert session.transaction.hex().upper() == "9D00C4DF"
    assert session.encryption_key.hex().upper() == ENCRYPTION
    assert session.mac_key.hex().upper() == MAC
    assert ENCRYPTION.lower() not in repr(session).lower()


def test_a_card_that_does_not_know_the_key_is_refused() -> None:
    reader = Ev2First(bytes(16), RND_A)
    reader.answer(_chain(RND_B))
    with pytest.raises(BadRecord, match="does not know"):
        reader.finish(bytes(32))


def test_a_message_code_of_an12196_is_cut_to_its_odd_bytes() -> None:
    # SUN example: zero keys, UID 04DE5F1EACC040, counter 61.
    session = aes_cmac(bytes(16), bytes.fromhex("3CC300010080 04DE5F1EACC040 3D0000".replace(" ", "")))
    assert truncated_mac(aes_cmac(session, b"")).hex().upper() == "94EED9EE65337086"
