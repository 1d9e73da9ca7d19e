"""Secure messaging of DESFire EV1 and EV2: what NXP publishes, what real cards said, an emulated card under attack."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards import desfire_session
from gateway.cards.desfire import (
    GET_CARD_UID,
    GET_FILE_SETTINGS,
    MORE,
    READ_DATA,
    FileSettings,
    Mode,
    body_of,
    continue_with,
    place_in_file,
    select_application,
)
from gateway.cards.desfire_session import (
    AUTHENTICATIONS,
    Ev1Authentication,
    Ev1Session,
    Ev2First,
    Ev2Session,
    crc_32,
    session_keys,
)
from gateway.errors import BadRecord
from gateway.simulator import desfire_card
from gateway.simulator.desfire_card import DesfireCard

UID = bytes.fromhex("04 A1 B2 C3 D4 E5 F6")
KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
AID = 0x3042F5
CONTENT = b"00047711........"


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


# NXP AN12343 rev. 1.1 (MIFARE DESFire Light, the messaging of DESFire EV2), tables 16 and 23 to 26


def test_authentication_of_an12343_table_16() -> None:
    reader = Ev2First(bytes(16), raw("B04D0787C93EE0CC8CACC8E86F16C6FE"))
    assert reader.start(0) == raw("71 00 00")
    sent = reader.answer(raw("24677DDBD46349E623798FD729006E79"))
    assert sent == raw("3B50445F21D21D77D500794DEB245E5A 754F5F901844259F4C9B31A5C7335ACD")
    session = reader.finish(raw("04C6DBD67417ED0D31DDDE4D2E3FFAC2 B4B074F638EEF7FFF9254963B65C7759"))
    assert session.encryption_key == raw("63DC07286289A7A6C0334CA31C314A04")
    assert session.mac_key == raw("774F26743ECE6AF5033B6AE8522946F6")
    assert session.transaction == raw("8CF141F3")
    assert session.mac_key.hex() not in repr(session).lower()


def test_a_signed_read_of_an12343_tables_23_and_24() -> None:
    session = Ev2Session(
        raw("C4C9F2A734F32967FAC80A0F37C764F0"), raw("9366FA195EB566F5BD2BAD4020B83002"), raw("E2D3AF69")
    )
    header = raw("00000000190000") + b"\x22" * 25
    assert session.command(0x8D, header, Mode.MAC)[-8:] == raw("68F2C28C575A1628")
    assert session.answer(b"\0" + raw("0820F68898C2A7F1"), Mode.MAC) == b""
    assert session.command(0xAD, raw("00000000300000"), Mode.MAC) == raw("AD 00000000300000 0D9BE191D5960834")
    content = b"\x22" * 25 + bytes(23)
    assert session.answer(b"\0" + content + raw("A49A44222D926666"), Mode.MAC, 48) == content


AN12343_FULL = raw(
    "8848D0F9B9FD4495770C89925B2A85C7 274D350FA9029C484D43804886662DC4 2D7F40A6D7A415E4A71EFF79EB8E5721"
    "AC3BF1CAAFE8EB2CAA2DC162E67A97A3 8ED7888F22B3A587"
)


def an12343_full() -> Ev2Session:
    session = Ev2Session(
        raw("FFBCFE1F41840A09C9A88D0A4B10DF05"), raw("37E7234B11BEBEFDE41A8F290090EF80"), raw("CD73D8E5"), counter=1
    )
    assert session.command(0xAD, raw("00000000300000"), Mode.FULL) == raw("AD 00000000300000 7CF94F122B3DB05F")
    return session


def test_an_encrypted_read_of_an12343_table_26() -> None:
    assert an12343_full().answer(b"\0" + AN12343_FULL, Mode.FULL, 48) == b"\x22" * 25 + bytes(23)


@given(st.integers(0, len(AN12343_FULL) * 8 + 7))
def test_no_flipped_bit_of_the_published_answer_gives_content(place: int) -> None:
    answer = bytearray(b"\0" + AN12343_FULL)
    answer[place // 8] ^= 1 << place % 8
    with pytest.raises(BadRecord):
        an12343_full().answer(bytes(answer), Mode.FULL, 48)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 24, 63, 71])
def test_no_beginning_of_the_published_answer_gives_content(length: int) -> None:
    with pytest.raises(BadRecord):
        an12343_full().answer(b"\0" + AN12343_FULL[:length], Mode.FULL, 48)


# NXP AN12196 (NTAG 424 DNA, the same messaging), tables 14, 15 and 28


def test_session_keys_of_an12196() -> None:
    keys = session_keys(bytes(16), raw("13C5DB8A5930439FC3DEF9A4C675360F"), raw("B9E2FC789B64BF237CCCAA20EC7E6E48"))
    assert keys == (raw("1309C877509E5A215007FF0ED19CA564"), raw("4C6626F5E72EA694202139295C7A7FC7"))


def test_file_settings_of_an12196_are_signed_both_ways() -> None:
    session = Ev2Session(bytes(16), raw("8248134A386E86EB7FAF54A52E536CB6"), raw("7A21085E"))
    assert session.command(GET_FILE_SETTINGS, b"\x02", Mode.MAC) == raw("F5 02 6597A457C8CD442C")
    body = raw("0040EEEE000100D1FE001F00004400004400002000006A0000")
    assert session.answer(b"\0" + body + raw("2A474282E7A47986"), Mode.MAC) == body
    assert FileSettings.parse(body).mode_for(0) is Mode.PLAIN


def test_the_true_uid_of_an12196_comes_encrypted() -> None:
    session = Ev2Session(
        raw("2B4D963C014DC36F24F69A50A394F875"), raw("379D32130CE61705DD5FD8C36B95D764"), raw("DF055522")
    )
    assert session.command(GET_CARD_UID, b"", Mode.FULL) == raw("51 8E2C155ADDA99BE3")
    answer = raw("00 70756055688505B52A5E26E59E329CD6 595F672298EA41B7")
    assert session.answer(answer, Mode.FULL, 7) == raw("04958CAA5C5E80")


# EV1: what two cards said to other programs, as published in the tests of pydesfire and desfire-tools-for-android


def test_authentication_and_answers_of_an_ev1_card() -> None:
    reader = Ev1Authentication(raw("10182028303840485058606870788088"), raw("40E7D27174CBA675E8EFBAB99C530E3D"))
    sent = reader.answer(raw("B351CB2465D4F33AC627FD6E87A168F2"))
    assert sent == raw("044B6CAC343A0865895149649CA8DDE1 F5AC4EC67BD208900AF02F049E05F0B0")
    session = reader.finish(raw("A2EE144B1012FBEB7B2F11132D95A454"))
    assert "40e7d271" not in repr(session).lower()
    first, second = bytes(range(0x34)), bytes(range(0x34, 0x50))
    said: list[tuple[int, bytes, str, bytes]] = [
        (0xCD, raw("05001100500000"), "A7531 6AD1596B953", b""),
        (0x6F, b"", "2D5FF67FFEC9D2D3", b"\x05"),
        (0xF5, b"\x05", "2AAC7517024E09DC", raw("00001100500000")),
        (0x3D, raw("05000000340000") + first, "765C9DAA50ECB62F", b""),
        (0x3D, raw("053400001C0000") + second, "3E0AED986B8B0F37", b""),
        (0xBD, raw("05000000300000"), "4C65F1F842262BAC", bytes(range(0x30))),
        (0xBD, raw("05300000200000"), "F02205CF913C03C9", bytes(range(0x30, 0x50))),
    ]
    for code, header, mac, content in said:
        session.command(code, header, Mode.PLAIN)
        assert session.answer(b"\0" + content + raw(mac.replace(" ", "")), Mode.PLAIN) == content


def test_an_encrypted_file_of_an_ev1_card() -> None:
    reader = Ev1Authentication(bytes(16), raw("41b4719a6c7f5eddDDa1e5558a491196"))
    sent = reader.answer(raw("7a4fbe87792e6ff13df9b5304c65f484"))
    assert sent == raw("bdebf8b514a2c0bf2b8b9892c2f23b5b 1aaf139446182dedc9863f6b67b15b90")
    session = reader.finish(raw("bdf43383ac379687f93f3577b935b8ef"))
    session.command(GET_FILE_SETTINGS, b"\x0f", Mode.MAC)
    body = session.answer(raw("00 00035412640000 7efde2c2c81ad236"), Mode.MAC)
    assert FileSettings.parse(body) == FileSettings(Mode.FULL, (1, 5), 100)
    # The program wrote then: the last block of what it sent is where the chain stands.
    session = Ev1Session(session._key, raw("df04331a737e431c7548d0c358ac1582 578a960b5ee51bd450b7c74d0479c0de")[-16:])
    assert session.answer(raw("00 86cdc76282299caf"), Mode.MAC) == b""
    session.command(GET_FILE_SETTINGS, b"\x0f", Mode.MAC)
    session.answer(raw("00 00035412640000 e1683ba6067a09a2"), Mode.MAC)
    session.command(READ_DATA, place_in_file(15, 10, 50), Mode.FULL)
    answer = raw(
        "00 99ee41fccc299f4d7f2aefaf54b1480f af0dccf7932b020aa5a21e34a38a30f3 67325a5b82eaf8f4a845f5f2ca9e0d24"
        "6be1296b82193c71d0c85eb443ec003c"
    )
    expected = b"to write to the card\0\0\0\0Another block of data.\0\0\0\0"
    assert session.answer(answer, Mode.FULL, 50) == expected


def test_the_checksum_of_ev1_is_the_one_cards_count() -> None:
    assert crc_32(raw("04440F32763180") + b"\0") == raw("99CE1AD4")
    assert crc_32(CONTENT) == desfire_card.checksum(CONTENT)


# Against the emulated card, which counts everything itself

Tamper = Callable[[int, bytes], bytes]


class Talk:
    """A reader at an emulated card, with somebody in between.

    Attributes:
        heard: the card's answers as they were.
    """

    def __init__(
        self, scheme: str, mode: int, key: bytes = KEY, tamper: Tamper = lambda _number, answer: answer
    ) -> None:
        self.scheme, self.key, self.tamper = scheme, key, tamper
        self.heard: list[bytes] = []
        self.card = DesfireCard(UID, AID, KEY)
        self.card.files[2] = CONTENT
        self.card.modes[2] = mode
        self.card.activated()
        self.card._in_protocol = True

    def ask(self, command: bytes) -> bytes:
        answer = self.card._perform(command)
        self.heard.append(answer)
        return self.tamper(len(self.heard) - 1, answer)

    def read(self, wanted: Mode | None = None) -> bytes:
        body_of(self.ask(select_application(AID)))
        steps = AUTHENTICATIONS[self.scheme](self.key, bytes(range(16)))
        challenge = body_of(self.ask(steps.start(0)), MORE)
        session = steps.finish(body_of(self.ask(continue_with(steps.answer(challenge)))))
        settings = session.answer(self.ask(session.command(GET_FILE_SETTINGS, b"\2", Mode.MAC)), Mode.MAC)
        mode = wanted if wanted is not None else FileSettings.parse(settings).mode_for(0)
        self.session, self.asked = session, session.command(READ_DATA, place_in_file(2, 0, 8), mode)
        return session.answer(self.ask(self.asked), mode, 8)


SCHEMES = st.sampled_from(["ev1", "ev2"])
# In plain mode EV2 protects nothing; that is what plain means.
PROTECTED = [("ev1", 0), ("ev1", 1), ("ev1", 3), ("ev2", 1), ("ev2", 3)]
ANSWERS = 5


@pytest.mark.parametrize(("scheme", "mode"), [*PROTECTED, ("ev2", 0)])
def test_a_file_is_read_in_every_mode(scheme: str, mode: int) -> None:
    talk = Talk(scheme, mode)
    assert talk.read() == CONTENT[:8]
    assert (CONTENT[:8] in talk.heard[-1]) == (mode != 3)


@given(st.sampled_from(PROTECTED), st.integers(0, ANSWERS - 1), st.integers(0, 8 * 64))
def test_no_flipped_bit_of_any_answer_gives_a_number(protected: tuple[str, int], number: int, place: int) -> None:
    def flip(turn: int, answer: bytes) -> bytes:
        if turn != number:
            return answer
        changed = bytearray(answer)
        changed[place // 8 % len(answer)] ^= 1 << place % 8
        return bytes(changed)

    with pytest.raises(BadRecord):
        Talk(*protected, tamper=flip).read()


# Not EV2's encryption: there a flip in the one block of a short content spoils its padding as well.
@pytest.mark.parametrize(("scheme", "mode"), PROTECTED[:-1])
def test_a_reader_that_checks_nothing_is_caught_by_such_flips(
    scheme: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desfire_session, "_same", lambda *_: None)

    def flip(turn: int, answer: bytes) -> bytes:
        return answer if turn != ANSWERS - 1 else answer[:5] + bytes([answer[5] ^ 1]) + answer[6:]

    assert Talk(scheme, mode, tamper=flip).read(Mode(mode)) != CONTENT[:8]


@given(st.sampled_from(PROTECTED), st.integers(1, ANSWERS - 1), st.integers(0, 63), st.binary(max_size=20))
def test_no_cut_or_longer_answer_gives_a_number(
    protected: tuple[str, int], number: int, length: int, more: bytes
) -> None:
    def cut(turn: int, answer: bytes) -> bytes:
        changed = answer[: length % len(answer)] + more
        return changed if turn == number and changed != answer else answer + b"!" * (turn == number)

    with pytest.raises(BadRecord):
        Talk(*protected, tamper=cut).read()


@pytest.mark.parametrize(("scheme", "mode"), PROTECTED)
@pytest.mark.parametrize("number", range(1, ANSWERS))
def test_an_answer_of_an_earlier_session_is_refused(scheme: str, mode: int, number: int) -> None:
    earlier = Talk(scheme, mode)
    earlier.read()
    with pytest.raises(BadRecord):
        Talk(scheme, mode, tamper=lambda turn, answer: earlier.heard[turn] if turn == number else answer).read()


@pytest.mark.parametrize(("scheme", "mode"), PROTECTED)
def test_the_same_answer_twice_in_one_session_is_refused(scheme: str, mode: int) -> None:
    talk = Talk(scheme, mode)
    talk.read()
    talk.session.command(READ_DATA, place_in_file(2, 0, 8), Mode(mode))
    with pytest.raises(BadRecord, match="older one"):
        talk.session.answer(talk.heard[-1], Mode(mode), 8)


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
def test_a_reader_with_another_key_is_refused_by_the_card(scheme: str) -> None:
    with pytest.raises(BadRecord, match="key"):
        Talk(scheme, 3, key=bytes(16)).read()


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
def test_a_card_that_does_not_know_the_key_is_refused_by_the_reader(scheme: str) -> None:
    steps = AUTHENTICATIONS[scheme](KEY, bytes(16))
    steps.answer(bytes(16))
    with pytest.raises(BadRecord, match="does not know the key"):
        steps.finish(bytes(16 if scheme == "ev1" else 32))


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
@pytest.mark.parametrize("mode", [1, 3])
def test_a_file_asked_for_in_another_mode_than_its_own_gives_no_number(scheme: str, mode: int) -> None:
    if (scheme, mode) == ("ev1", 1):
        assert Talk(scheme, mode).read(Mode.PLAIN) == CONTENT[:8]  # EV1 signs a plain answer as well
        return
    with pytest.raises(BadRecord):
        Talk(scheme, mode).read(Mode.PLAIN)


@given(SCHEMES, st.binary(min_size=1, max_size=16))
def test_any_content_survives_encryption(scheme: str, content: bytes) -> None:
    talk = Talk(scheme, 3)
    talk.card.files[2] = content.ljust(8, b"\0")
    assert talk.read() == content.ljust(8, b"\0")[:8]
