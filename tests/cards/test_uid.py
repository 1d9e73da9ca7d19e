"""UIDs: lengths, kinds, and what they show of themselves."""

from __future__ import annotations

import pytest

from gateway.cards.uid import Uid, UidKind
from gateway.errors import BadCardNumber


@pytest.mark.parametrize("length", [0, 1, 3, 5, 6, 8, 9, 11])
def test_only_four_seven_and_ten_bytes_are_a_uid(length: int) -> None:
    with pytest.raises(BadCardNumber, match=str(length)):
        Uid(b"\x01" * length)


def test_a_cut_seven_byte_uid_is_not_taken_for_a_short_one() -> None:
    with pytest.raises(BadCardNumber, match="cascade tag"):
        Uid(bytes.fromhex("8804A1B2"))


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("08123456", UidKind.RANDOM),
        ("DEADBEEF", UidKind.NOT_UNIQUE),
        ("08A1B2C3D4E5F6", UidKind.UNIQUE),
        ("04A1B2C3D4E5F6", UidKind.UNIQUE),
    ],
)
def test_the_kind_tells_what_a_uid_promises(raw: str, kind: UidKind) -> None:
    assert Uid(bytes.fromhex(raw)).kind is kind


def test_a_uid_shows_two_bytes_of_itself_at_most() -> None:
    uid = Uid(bytes.fromhex("04A1B2C3D4E5F6"))
    assert uid.tail == "E5F6"
    assert "A1B2" not in repr(uid)
    assert "E5F6" in repr(uid)
