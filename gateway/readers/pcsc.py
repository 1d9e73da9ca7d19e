"""Desk readers behind PC/SC (extra `pcsc`): ACR122U, ACR1252U, OMNIKEY 5x2x and others.

    numbers          UIDs of 4, 7 and 10 bytes, by the pseudo APDU FF CA 00 00 00 (PC/SC part 3, section 3.2.2.1.3);
                     others when `technology` names them
    card gone        yes
    LED, buzzer      no

`port` is the reader's name as pcscd gives it, or part of it, or empty for the first one. A recording holds what pcscd
tells of the reader and the answers of its cards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.access.rules import Reason
from gateway.cards.identity import KINDS, identify
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.cards.uid import UID_LENGTHS
from gateway.errors import BadCardNumber, ConfigError, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardGone, CardRead, CardRefused, ReaderEvent, Transports, Vitals
from gateway.readers.judge import judge_uid
from gateway.readers.pcsc_watch import PcscWatch

_WAIT_MS = 50
_OK = b"\x90\x00"
_ISO15693_HEAD = 0xE0


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a pcsc reader.

    Attributes:
        rearm_ms: how long a card must be away before it counts again.
        technology: what cards with numbers of another length than UIDs are: iso15693, iclass, felica, legic or
            em4100. Left empty, those are refused.
    """

    rearm_ms: float = 300.0
    technology: str = ""

    def __post_init__(self) -> None:
        problems = []
        if not 20 <= self.rearm_ms <= 10_000:
            problems.append("rearm_ms: must be from 20 to 10000")
        if self.technology and self.technology not in KINDS:
            problems.append(f"technology: must be one of {', '.join(KINDS)}")
        if problems:
            raise ConfigError(problems)


class Watch(Protocol):
    """What the reader needs of PcscWatch."""

    def open(self) -> str: ...

    def take(self, wait_ms: int) -> list[dict[str, Any]]: ...

    def close(self) -> None: ...


class PcscReader:
    """Reader over what a watch tells."""

    def __init__(
        self, name: str, watch: Watch, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = 0.0
        self._watch = watch
        self._rearm_ns = int(options.rearm_ms * 1e6)
        self._technology = options.technology
        self._now_ns = now_ns
        self._card: bytes | None = None
        self._left_ns = 0

    def open(self) -> None:
        again = self.vitals.state != "starting"
        try:
            self.vitals.firmware = self._watch.open()
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        self.vitals.reopens += again
        self.vitals.state, self.vitals.detail = "ready", self.vitals.firmware

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        try:
            happened = self._watch.take(_WAIT_MS)
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        now_ns = self._now_ns()
        events = self._forget(now_ns)
        for item in happened:
            events += self._judge(item, now_ns)
        return events

    def _judge(self, item: dict[str, Any], now_ns: int) -> list[ReaderEvent]:
        if item["what"] == "answer":
            return self._arrived(bytes.fromhex(item["data"]), now_ns)
        if item["what"] == "empty":
            self._left_ns = self._left_ns or now_ns
        elif item["what"] == "missed":
            self.vitals.retries += 1
        else:
            self.vitals.errors += 1
        return []

    def _forget(self, now_ns: int) -> list[ReaderEvent]:
        if self._card is None or not self._left_ns or now_ns - self._left_ns < self._rearm_ns:
            return []
        self._card = None
        return [CardGone(self.name, now_ns)]

    def _arrived(self, answer: bytes, now_ns: int) -> list[ReaderEvent]:
        uid = answer[:-2] if answer.endswith(_OK) else b""
        self._left_ns = 0
        if uid == self._card:
            return []
        events: list[ReaderEvent] = [CardGone(self.name, now_ns)] if self._card is not None else []
        self._card = uid
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        if not uid:
            detail = "The card gives no UID through PC/SC; it may be a contact card or an ISO 15693 tag."
            return [*events, CardRefused(self.name, Reason.CARD_FORMAT, detail, now_ns)]
        if self._technology and len(uid) not in UID_LENGTHS:
            return [*events, self._other(uid, now_ns)]
        return [*events, judge_uid(self.name, uid, UNKNOWN_TYPE, now_ns)]

    def _other(self, raw: bytes, now_ns: int) -> ReaderEvent:
        if self._technology == "iso15693" and raw[0] != _ISO15693_HEAD == raw[-1]:
            raw = raw[::-1]  # some makers give the last byte first
        try:
            number = identify(raw, self._technology)
        except BadCardNumber as error:
            return CardRefused(self.name, Reason.CARD_FORMAT, str(error), now_ns)
        return CardRead(self.name, number, self._technology, now_ns)

    def signal(self, signal: Signal) -> bool:  # noqa: ARG002  # no two makers agree on how
        return False

    def close(self) -> None:
        self._watch.close()


def make(name: str, port: str, options: Options, transports: Transports) -> PcscReader:
    # pcscd owns the wires.
    return PcscReader(name, transports.library(lambda _wires: PcscWatch(port)), options, transports.now_ns)
