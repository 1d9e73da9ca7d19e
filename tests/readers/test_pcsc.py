"""The PC/SC driver over a stand-in for pyscard's function table; pcscd itself is not part of these tests."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable

import pytest

from gateway.access.rules import Reason
from gateway.errors import MissingExtra, ReaderOffline
from gateway.readers.base import CardRefused, ReaderEvent
from gateway.readers.pcsc import Options, PcscReader
from tests.readers.contract import ReaderContract, taps

_CHANGED, _UNKNOWN, _UNAVAILABLE, _EMPTY, _PRESENT, _MUTE = 0x2, 0x4, 0x8, 0x10, 0x20, 0x200
_TIMEOUT, _NO_SERVICE = 0x8010000A, 0x8010001D
NAME = "ACS ACR1252 Dual Reader [PICC] 00 00"


class PcscBench:
    """Keeps the clock too: a wait for a change passes its time at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uid: bytes | None = None
        self.no_uid = False
        self.alive = True
        self.clock_ns = time.monotonic_ns()
        module = types.ModuleType("smartcard.scard")
        vars(module).update(
            SCARD_S_SUCCESS=0,
            SCARD_E_TIMEOUT=_TIMEOUT,
            SCARD_SCOPE_SYSTEM=2,
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
            SCardEstablishContext=lambda _scope: (0, 7) if self.alive else (_NO_SERVICE, 0),
            SCardListReaders=lambda _context, _groups: (0, ["Other", NAME]),
            SCardGetStatusChange=self.status,
            SCardConnect=lambda *_: (0, 1, 2) if self.uid is not None else (1, 0, 0),
            SCardTransmit=self.transmit,
            SCardDisconnect=lambda *_: 0,
            SCardReleaseContext=lambda _context: 0,
        )
        package = types.ModuleType("smartcard")
        vars(package).update(scard=module)
        monkeypatch.setitem(sys.modules, "smartcard", package)
        monkeypatch.setitem(sys.modules, "smartcard.scard", module)
        self.reader = PcscReader("desk", "ACR1252", Options(), self.now_ns)
        self.now: Callable[[], int] = self.now_ns

    def now_ns(self) -> int:
        self.clock_ns += 1000
        return self.clock_ns

    def status(self, _context: int, wait_ms: int, states: list[tuple[str, int]]) -> tuple[int, list]:
        if not self.alive:
            return _NO_SERVICE, []
        [(name, known)] = states
        assert name == NAME
        # The upper half counts insertions, as pcscd's does.
        state = _EMPTY if self.uid is None else _PRESENT | self.uid[-1] << 16
        if known == state:
            self.clock_ns += wait_ms * 1_000_000
            return _TIMEOUT, []
        self.clock_ns += 1_000_000
        return 0, [(name, state | _CHANGED, [])]

    def transmit(self, _card: int, _protocol: int, apdu: list[int]) -> tuple[int, list[int]]:
        assert apdu == [0xFF, 0xCA, 0, 0, 0]
        return 0, [0x6A, 0x81] if self.no_uid else [*(self.uid or b""), 0x90, 0x00]

    def enter(self, uid: bytes) -> None:
        self.uid = uid

    def leave(self) -> None:
        self.uid = None

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        end_ns = self.clock_ns + milliseconds * 1e6
        while self.clock_ns < end_ns:
            events += self.reader.poll()
        return events

    def kill(self) -> None:
        self.alive = False

    def revive(self) -> None:
        self.alive = True


class TestContract(ReaderContract):
    @pytest.fixture
    def bench(self, monkeypatch: pytest.MonkeyPatch) -> PcscBench:
        return PcscBench(monkeypatch)


def test_a_card_without_uid_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = PcscBench(monkeypatch)
    bench.no_uid = True
    bench.reader.open()
    bench.enter(b"\x01\x02\x03\x04")
    [event] = taps(bench.run(200))
    assert isinstance(event, CardRefused)
    assert event.reason == Reason.CARD_FORMAT


def test_a_reader_of_another_name_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = PcscBench(monkeypatch)
    bench.reader = PcscReader("desk", "OMNIKEY", Options())
    with pytest.raises(ReaderOffline, match="OMNIKEY"):
        bench.reader.open()


def test_without_pyscard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    with pytest.raises(MissingExtra, match=r"tapgate\[pcsc\]"):
        PcscReader("desk", "", Options()).open()
