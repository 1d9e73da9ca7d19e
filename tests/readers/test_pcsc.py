"""The PC/SC driver over a stand-in for pyscard's function table; test_pcscd.py has the real one."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Iterator

import pytest

from gateway.access.rules import Reason
from gateway.errors import MissingExtra, ReaderOffline
from gateway.readers.base import CardRead, CardRefused, ReaderEvent
from gateway.readers.pcsc import Options, PcscReader, make
from gateway.transports.real import RealTransports
from tests.readers.contract import FOUR, HeldUpContract, ReaderContract, taps

_CHANGED, _UNKNOWN, _UNAVAILABLE, _EMPTY, _PRESENT, _MUTE = 0x2, 0x4, 0x8, 0x10, 0x20, 0x200
_TIMEOUT, _NO_SERVICE, _NOT_LET_IN = 0x8010000A, 0x8010001D, 0x8010006A
NAME = "ACS ACR1252 Dual Reader [PICC] 00 00"


class PcscBench:
    """Stands in for pyscard; see test_pcscd.py for the real one."""

    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uid: bytes | None = None
        self.answer: bytes | None = None
        self.alive = True
        self.refuses = 0
        self.connects = 0
        self.fails_to_connect = 0
        self._moves = 0
        self._free, self._babbling = threading.Event(), threading.Event()
        self._free.set()
        self._changed = threading.Condition()
        module = types.ModuleType("smartcard.scard")
        vars(module).update(
            SCARD_S_SUCCESS=0,
            SCARD_E_TIMEOUT=_TIMEOUT,
            SCARD_E_CANCELLED=0x80100002,
            SCARD_E_INVALID_HANDLE=0x80100003,
            SCARD_SCOPE_SYSTEM=2,
            SCARD_W_SECURITY_VIOLATION=_NOT_LET_IN,
            SCARD_STATE_UNAWARE=0,
            SCARD_STATE_CHANGED=_CHANGED,
            SCARD_STATE_UNKNOWN=_UNKNOWN,
            SCARD_STATE_UNAVAILABLE=_UNAVAILABLE,
            SCARD_STATE_PRESENT=_PRESENT,
            SCARD_STATE_MUTE=_MUTE,
            SCARD_SHARE_SHARED=2,
            SCARD_PROTOCOL_T0=1,
            SCARD_PROTOCOL_T1=2,
            SCARD_LEAVE_CARD=0,
            SCardEstablishContext=lambda _scope: (self.refusal, 0) if self.refusal else (0, 7),
            SCardListReaders=self.readers,
            SCardGetStatusChange=self.status,
            SCardConnect=self.connect,
            SCardTransmit=self.transmit,
            SCardDisconnect=lambda *_: 0,
            SCardReleaseContext=lambda _context: 0,
            SCardCancel=lambda _context: 0,
        )
        package = types.ModuleType("smartcard")
        vars(package).update(scard=module)
        monkeypatch.setitem(sys.modules, "smartcard", package)
        monkeypatch.setitem(sys.modules, "smartcard.scard", module)
        self.reader = make("desk", "ACR1252", Options(), RealTransports())

    @property
    def refusal(self) -> int:
        return self.refuses or (0 if self.alive else _NO_SERVICE)

    def readers(self, _context: int, _groups: list) -> tuple[int, list[str]]:
        if not self.alive:
            # What pyscard does with the context of a pcscd that is gone.
            raise SystemError("returned NULL without setting an exception")
        return 0, ["Other", NAME]

    def status(self, _context: int, wait_ms: int, states: list[tuple[str, int]]) -> tuple[int, list]:
        [(name, known)] = states
        with self._changed:
            if name != NAME:
                # The name for "tell me of new readers".
                self._changed.wait(wait_ms / 1000)
                return _TIMEOUT, []

            def state() -> int:
                # The upper half counts insertions and removals, as pcscd's does.
                return (_EMPTY if self.uid is None else _PRESENT) | self._moves << 16

            if not self._changed.wait_for(lambda: not self.alive or state() != known, wait_ms / 1000):
                return _TIMEOUT, []
            if not self.alive:
                return _NO_SERVICE, []
            return 0, [(name, state() | _CHANGED, [])]

    def connect(self, *_: object) -> tuple[int, int, int]:
        self.connects += 1
        if self.fails_to_connect:
            self.fails_to_connect -= 1
            return 0x80100066, 0, 0  # the card does not answer to its reset
        return (0, 1, 2) if self.uid is not None else (0x80100069, 0, 0)

    def transmit(self, _card: int, _protocol: int, apdu: list[int]) -> tuple[int, list[int]]:
        self._free.wait(30)
        assert apdu == [0xFF, 0xCA, 0, 0, 0]
        if self.answer is not None:
            return 0, list(self.answer)
        return 0, [*(self.uid or b""), 0x90, 0x00]

    def _move(self, uid: bytes | None) -> None:
        with self._changed:
            self.uid = uid
            self._moves += 1
            self._changed.notify_all()

    def enter(self, uid: bytes) -> None:
        self._move(uid)

    def leave(self) -> None:
        self._move(None)

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        end = time.monotonic() + milliseconds / 1000
        while time.monotonic() < end:
            events += self.reader.poll()
        return events

    def stick(self) -> None:
        """Let calls with a card hang."""
        self._free.clear()
        self._move(FOUR)

    def babble(self) -> None:
        """Let cards come and go all the time."""
        self._babbling.set()
        threading.Thread(target=self._babble, daemon=True).start()

    def _babble(self) -> None:
        while self._babbling.is_set():
            self._move(FOUR)
            self._move(None)
            time.sleep(0.0005)

    def calm(self) -> None:
        self._babbling.clear()
        self._free.set()
        time.sleep(0.02)
        self._move(None)
        self.revive()

    def kill(self) -> None:
        with self._changed:
            self.alive = False
            self._changed.notify_all()

    def revive(self) -> None:
        self.alive = True


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[PcscBench]:
    made = PcscBench(monkeypatch)
    yield made
    made.reader.close()


class TestContract(HeldUpContract, ReaderContract):
    """The fixture above is its bench."""


def test_a_user_whom_polkit_does_not_let_in_is_told_what_to_install(bench: PcscBench) -> None:
    bench.refuses = _NOT_LET_IN
    with pytest.raises(ReaderOffline, match=r"50-tapgate-pcsc\.rules"):
        bench.reader.open()


def test_a_card_without_uid_is_refused_with_a_reason(bench: PcscBench) -> None:
    bench.answer = b"\x6a\x81"
    bench.reader.open()
    bench.enter(FOUR)
    [event] = taps(bench.run(200))
    assert isinstance(event, CardRefused)
    assert event.reason == Reason.CARD_FORMAT


@pytest.mark.parametrize("answer", [b"", b"\x90", b"\x63\x00", b"\x6f\x00"])
def test_an_answer_that_is_none_is_asked_for_again(bench: PcscBench, answer: bytes) -> None:
    bench.answer = answer
    bench.reader.open()
    bench.enter(FOUR)
    assert bench.run(200) == []
    bench.answer = None
    [read] = taps(bench.run(1500))
    assert read.number.value == FOUR
    assert bench.reader.vitals.retries >= 1


def test_a_card_that_was_not_ready_is_tried_again_while_it_lies_there(bench: PcscBench) -> None:
    bench.fails_to_connect = 2
    bench.reader.open()
    bench.enter(FOUR)
    [read] = taps(bench.run(800))
    assert read.number.value == FOUR
    assert bench.reader.vitals.retries == 2


def test_a_card_that_never_answers_is_not_asked_all_the_time(bench: PcscBench) -> None:
    bench.fails_to_connect = 1000
    bench.reader.open()
    bench.enter(FOUR)
    assert bench.run(1500) == []
    assert bench.connects <= 7


def test_a_reader_of_another_name_is_not_taken(bench: PcscBench) -> None:
    other = make("desk", "OMNIKEY", Options(), RealTransports())
    with pytest.raises(ReaderOffline, match="OMNIKEY"):
        other.open()


def test_without_pyscard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    with pytest.raises(MissingExtra, match=r"tapgate\[pcsc\]"):
        make("desk", "", Options(), RealTransports()).open()


@pytest.mark.parametrize(
    ("technology", "raw", "number"),
    [
        ("felica", "012E4CD77A1B9F02", "012E4CD77A1B9F02"),
        ("iso15693", "4D3C2B1A500104E0", "E00401501A2B3C4D"),
        ("iso15693", "E00401501A2B3C4D", "E00401501A2B3C4D"),
        ("felica", "DEADBEEF", "DEADBEEF"),
        ("", "012E4CD77A1B9F02", None),
    ],
)
def test_numbers_that_are_no_uids_are_read_when_their_kind_is_named(
    technology: str, raw: str, number: str | None
) -> None:
    class OneCard:
        def open(self) -> str:
            return "ACR1252"

        def take(self, wait_ms: int) -> list[dict[str, object]]:
            del wait_ms
            return [{"what": "answer", "data": raw + "9000"}]

        def close(self) -> None:
            """Nothing is open."""

    reader = PcscReader("desk", OneCard(), Options(technology=technology))
    reader.open()
    [event] = reader.poll()
    if number is None:
        assert isinstance(event, CardRefused)
        return
    assert isinstance(event, CardRead)
    assert event.number.value.hex().upper() == number
    assert event.number.projection == (technology if len(raw) == 16 else "uid")
