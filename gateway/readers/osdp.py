"""OSDP readers on an RS-485 line, through libosdp (extra `osdp`); several readers may share a line.

    numbers          words of 20 to 128 bits (cards.wiegand); parity of 26, 34 and 58 bits is checked
    Secure Channel   yes, with the reader's key from a file; without one anybody with access to the wires can listen in
    card gone        never reported
    LED, buzzer      yes
    tamper, mains    reported as notices when they change; the reader shows as degraded meanwhile
    inputs           reported as notices, but cannot yet act as a door contact or exit button
    keypad           counted only: what is typed may be a PIN, and no log, journal or recording may hold one

Readers of one port need different addresses and the same baud; each has a key of its own. One that is silent is called
once a second and keeps the line for 30 ms then. After ReaderOffline a reader gets a fresh control panel, which takes a
third of a second. A recording holds what libosdp reports, not the bytes on the wires: Secure Channel encrypts those
with a session key, so they could neither be masked nor replayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.access.rules import Reason
from gateway.cards.identity import TECHNOLOGIES
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.cards.wiegand import number_of
from gateway.errors import BadCardNumber, ConfigError, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardRefused, ReaderEvent, ReaderNotice, Transports, Vitals
from gateway.readers.judge import judge_number
from gateway.readers.osdp_line import line_of
from gateway.readers.osdp_panel import REFRESH_SECONDS, LibosdpPanel
from gateway.readers.serial_base import option_problems

# Both bytes of a local status report (IEC 60839-11-5, osdp_LSTATR): states for a rising and a falling level.
_LOCAL = (
    ("tampered", "The reader reports tampering.", "tamper_ended", "Tampering at the reader has ended."),
    ("mains_lost", "The reader has lost its mains.", "mains_back", "The reader has its mains again."),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an osdp reader.

    Attributes:
        address: of the reader on its line, 0 to 126; readers of one port have different ones.
        scbk_file: file with the reader's Secure Channel base key, 32 hex digits; empty for a plain line.
        bit_order: `lsb` when the reader sends the UID's last byte first.
        technology: of the cards: `iso14443a`, `125khz`, or one of `em4100`, `iso15693`, `iclass`, `felica`, `legic`,
            `other`. Left empty, words with parity are never taken for random UIDs of phones, words of 32 bits are, and
            40 or 64 bits are bare words.
    """

    baud: int = 9600
    address: int = 0
    scbk_file: str = ""
    bit_order: str = "msb"
    technology: str = ""

    def __post_init__(self) -> None:
        problems = option_problems(self, {"address": (0, 126)})
        if self.bit_order not in {"msb", "lsb"}:
            problems.append("bit_order: must be msb or lsb")
        if self.technology and self.technology not in TECHNOLOGIES:
            problems.append(f"technology: must be one of {', '.join(TECHNOLOGIES)}")
        if problems:
            raise ConfigError(problems)


class Panel(Protocol):
    """What the reader needs of LibosdpPanel."""

    def open(self) -> None: ...

    def turn(self) -> list[dict[str, Any]]: ...

    def show(self, signal: str) -> bool: ...

    def close(self) -> None: ...


class OsdpReader:
    """Reader over a control panel with one peripheral device."""

    def __init__(
        self, name: str, panel: Panel, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = REFRESH_SECONDS
        self._panel = panel
        self._options = options
        self._now_ns = now_ns
        # Kept across a lost line, so that an unchanged state is not reported again.
        self._local = [0, 0]
        self._inputs: dict[int, int] = {}
        self._is_open = False

    def open(self) -> None:
        again = self.vitals.state != "starting"
        self.close()
        try:
            self._panel.open()
        except ReaderOffline as error:
            self.close()
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        self._is_open = True
        self.vitals.reopens += again
        self._show_state()

    def _show_state(self) -> None:
        alarms = [sentence for (_, sentence, _, _), level in zip(_LOCAL, self._local, strict=True) if level]
        self.vitals.state = "degraded" if alarms else "ready"
        quiet = "Secure Channel" if self._options.scbk_file else "plain line; set scbk_file to protect it"
        self.vitals.detail = " ".join(alarms) or quiet

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        try:
            reports = self._panel.turn()
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        return [event for item in reports for event in self._judge(item)]

    def _judge(self, report: dict[str, Any]) -> list[ReaderEvent]:
        kind = report["kind"]
        if kind == "card":
            return [self._card(bytes.fromhex(report["data"]), report["bits"])]
        if kind == "keys":
            self._count("keys", report["count"])
        elif kind == "late":
            self._count("stale", report["count"])
        elif kind == "local":
            return self._local_status(report["levels"])
        elif kind == "input":
            return self._input_status(report["levels"])
        else:
            self._count("status reports")
        return []

    def _local_status(self, levels: list[int]) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        now_ns = self._now_ns()
        for place, (level, (risen, why, fallen, over)) in enumerate(zip(levels, _LOCAL, strict=False)):
            if bool(level) == bool(self._local[place]):
                continue
            self._local[place] = level
            state, detail = (risen, why) if level else (fallen, over)
            self._count(state)
            events.append(ReaderNotice(self.name, state, detail, now_ns))
        self._show_state()
        return events

    def _input_status(self, levels: list[int]) -> list[ReaderEvent]:
        now_ns = self._now_ns()
        # An input at rest in its first report is not news.
        changed = [place for place, level in enumerate(levels) if bool(level) != bool(self._inputs.get(place))]
        self._inputs.update(enumerate(levels))
        return [
            ReaderNotice(
                self.name,
                f"input_{place + 1}_{'on' if levels[place] else 'off'}",
                f"A contact at input {place + 1} of the reader has moved.",
                now_ns,
            )
            for place in changed
        ]

    def _card(self, data: bytes, bits: int) -> ReaderEvent:
        now_ns = self._now_ns()
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        # The first bit on the wire is the top bit of the first byte.
        word = int.from_bytes(data, "big") >> max(len(data) * 8 - bits, 0)
        if self._options.bit_order == "lsb" and not bits % 8:
            word = int.from_bytes(word.to_bytes(bits // 8, "big"), "little")
        try:
            number = number_of(word, bits, self._options.technology)
        except BadCardNumber as error:
            self.vitals.errors += 1
            self.vitals.refused += 1
            return CardRefused(self.name, Reason.CARD_FORMAT, str(error), now_ns)
        return judge_number(self.name, number, UNKNOWN_TYPE, now_ns)

    def signal(self, signal: Signal) -> bool:
        if not self._is_open:
            return False
        shown = bool(self._panel.show(str(signal)))
        if not shown:
            self._count("signals refused")
        return shown

    def _count(self, name: str, times: int = 1) -> None:
        self.vitals.counters[name] = self.vitals.counters.get(name, 0) + times

    def close(self) -> None:
        self._is_open = False
        self._panel.close()


def make(name: str, port: str, options: Options, transports: Transports) -> OsdpReader:
    panel = transports.library(
        lambda wires: LibosdpPanel(line_of(wires, port, options.baud), options.address, options.scbk_file, wires.now_ns)
    )
    return OsdpReader(name, panel, options, transports.now_ns)
