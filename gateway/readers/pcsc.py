"""Desk readers behind PC/SC (extra `pcsc`): ACR122U, ACR1252U, OMNIKEY 5x2x and others.

    UIDs             4, 7 and 10 bytes, by the pseudo APDU FF CA 00 00 00 (PC/SC part 3, section 3.2.2.1.3)
    card gone        yes
    LED, buzzer      no

`port` is the reader's name as pcscd gives it, or part of it, or empty for the first one. pyscard's own monitor dies
when pcscd restarts, so its plain functions are asked here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway.access.rules import Reason
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.errors import ConfigError, MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardGone, CardRefused, ReaderEvent, Transports, Vitals
from gateway.readers.judge import judge_uid

_WAIT_MS = 50
_GET_UID = [0xFF, 0xCA, 0x00, 0x00, 0x00]
_OK = b"\x90\x00"


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a pcsc reader.

    Attributes:
        rearm_ms: how long a card must be away before it counts again.
    """

    rearm_ms: float = 300.0

    def __post_init__(self) -> None:
        if not 20 <= self.rearm_ms <= 10_000:
            raise ConfigError(["rearm_ms: must be from 20 to 10000"])


class PcscReader:
    """Reader over the functions of winscard, as pyscard's `smartcard.scard` names them."""

    def __init__(self, name: str, port: str, options: Options, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = 0.0
        self._port = port
        self._rearm_ns = int(options.rearm_ms * 1e6)
        self._now_ns = now_ns
        self._scard: Any = None
        self._context: Any = None
        self._reader = ""
        self._state = 0
        self._card: bytes | None = None
        self._left_ns = 0

    def open(self) -> None:
        try:
            from smartcard import scard  # noqa: PLC0415  # only this driver needs it
        except ImportError as error:
            raise MissingExtra("Driver pcsc needs pyscard; install tapgate[pcsc] and pcscd.") from error
        again = self.vitals.state != "starting"
        self.close()
        self._scard = scard
        result, self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if result != scard.SCARD_S_SUCCESS:
            self._context = None
            self._fail("pcscd does not run; install and start it.")
        result, names = scard.SCardListReaders(self._context, [])
        found = [name for name in names if self._port in name] if result == scard.SCARD_S_SUCCESS else []
        if not found:
            self._fail(f"PC/SC has no reader {self._port!r}; plug it in, and keep pn533_usb and nfc from loading.")
        self._reader = found[0]
        self._state = scard.SCARD_STATE_UNAWARE
        self.vitals.reopens += again
        self.vitals.firmware = self._reader
        self.vitals.state, self.vitals.detail = "ready", self._reader

    def _fail(self, why: str) -> NoReturn:
        self.close()
        self.vitals.state, self.vitals.detail = "offline", why
        raise ReaderOffline(why)

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        scard = self._scard
        if self._context is None:
            self._fail(f"PC/SC reader {self._port!r} is not open.")
        result, states = scard.SCardGetStatusChange(self._context, _WAIT_MS, [(self._reader, self._state)])
        now_ns = self._now_ns()
        if result == scard.SCARD_E_TIMEOUT:
            return self._forget(now_ns)
        if result != scard.SCARD_S_SUCCESS or not states:
            self._fail("pcscd has stopped answering.")
        _, event, _ = states[0]
        if event & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE):
            self._fail(f"PC/SC reader {self._reader} is gone; plug it in again.")
        self._state = event & ~scard.SCARD_STATE_CHANGED
        if not event & scard.SCARD_STATE_PRESENT:
            self._left_ns = self._left_ns or now_ns
            return self._forget(now_ns)
        if event & scard.SCARD_STATE_MUTE:
            self.vitals.errors += 1
            return []
        return self._arrived(now_ns)

    def _forget(self, now_ns: int) -> list[ReaderEvent]:
        if self._card is None or not self._left_ns or now_ns - self._left_ns < self._rearm_ns:
            return []
        self._card = None
        return [CardGone(self.name, now_ns)]

    def _arrived(self, now_ns: int) -> list[ReaderEvent]:
        uid = self._read_uid()
        if uid is None or uid == self._card:
            self._left_ns = 0 if uid else self._left_ns
            return []
        events: list[ReaderEvent] = [CardGone(self.name, now_ns)] if self._card is not None else []
        self._card, self._left_ns = uid, 0
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        if not uid:
            detail = "The card gives no UID through PC/SC; it may be a contact card or an ISO 15693 tag."
            return [*events, CardRefused(self.name, Reason.CARD_FORMAT, detail, now_ns)]
        return [*events, judge_uid(self.name, uid, UNKNOWN_TYPE, now_ns)]

    def _read_uid(self) -> bytes | None:
        """Give the UID, empty when the card has none, None when it has left again."""
        scard = self._scard
        result, card, protocol = scard.SCardConnect(
            self._context, self._reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        )
        if result != scard.SCARD_S_SUCCESS:
            self.vitals.retries += 1
            return None
        try:
            result, answer = scard.SCardTransmit(card, protocol, _GET_UID)
        finally:
            scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)
        if result != scard.SCARD_S_SUCCESS:
            self.vitals.retries += 1
            return None
        raw = bytes(answer)
        return raw[:-2] if raw.endswith(_OK) else b""

    def signal(self, signal: Signal) -> bool:  # noqa: ARG002  # no two makers agree on how
        return False

    def close(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            self._scard.SCardReleaseContext(context)


def make(name: str, port: str, options: Options, transports: Transports) -> PcscReader:
    del transports  # pcscd owns the wires
    return PcscReader(name, port, options)
