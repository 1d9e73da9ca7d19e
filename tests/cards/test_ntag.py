"""NTAG and Ultralight EV1 against published versions and signatures of real chips."""

from __future__ import annotations

import pytest

from gateway.cards.ntag import is_genuine, parse_version
from gateway.errors import BadRecord

_SIGNED = [
    ("04E10CDA993C80", "8B76052EE42F5567BEB53238B3E3F9950707C0DCC956B5C5EFCFDB709B2D82B3", False),
    ("04DB0BDA993C80", "6048EFD9417CD10F6B7F1818D471A7FE5B46868D2EABDC6307A1E0AAE139D8D0", False),
    ("04C2285A373080", "A561506723D422D29ED9F93E60D20B9ED1E05CC1BF81DA19FE500CA0B81CC0ED", True),
]


@pytest.mark.parametrize(("uid", "signature", "ultralight"), _SIGNED)
def test_published_signatures_of_real_chips_are_genuine(uid: str, signature: str, ultralight: bool) -> None:
    assert is_genuine(bytes.fromhex(uid), bytes.fromhex(signature), ultralight=ultralight)


@pytest.mark.parametrize(("uid", "signature", "ultralight"), _SIGNED)
def test_a_signature_on_another_uid_or_of_another_family_is_a_clone_sign(
    uid: str, signature: str, ultralight: bool
) -> None:
    raw = bytes.fromhex(uid)
    other = raw[:-1] + bytes([raw[-1] ^ 1])
    assert not is_genuine(other, bytes.fromhex(signature), ultralight=ultralight)
    assert not is_genuine(raw, bytes.fromhex(signature), ultralight=not ultralight)


@pytest.mark.parametrize("signature", [b"", bytes(32), b"\xff" * 32, bytes(31)])
def test_nonsense_is_no_signature(signature: bytes) -> None:
    assert not is_genuine(bytes(7), signature)


def test_a_version_names_the_chip() -> None:
    assert parse_version(bytes.fromhex("0004040201000F03")).name == "ntag213"
    assert parse_version(bytes.fromhex("0004040201001303")).name == "ntag216"
    assert parse_version(bytes.fromhex("0004040201007703")).name == "unknown"
    with pytest.raises(BadRecord):
        parse_version(b"\x00\x04")
