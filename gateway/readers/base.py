"""The contract of every reader, and the table of drivers.

A reader is owned by one bus thread; nothing here is called from two threads. To add a reader: one file in this folder
with an Options dataclass and a class that keeps Reader, one line in DRIVERS, a transcript test, the shared contract
test.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from gateway.cards.identity import CardNumber
from gateway.errors import ConfigError, MissingExtra
from gateway.points.actions import Signal


@dataclass(frozen=True, slots=True)
class CardRead:
    """One presentation of one card: it entered the field and its number is known.

    Attributes:
        number: the card number; it must not leave this process except as a card key.
        card_type: such as `mifare-classic-1k`, `ntag`, `desfire`, `unknown`.
        seen_ns: CLOCK_MONOTONIC nanoseconds when the number was known.
    """

    reader: str
    number: CardNumber
    card_type: str
    seen_ns: int


@dataclass(frozen=True, slots=True)
class CardRefused:
    """One presentation of something that cannot serve as an identity.

    Attributes:
        reason: a value of access.rules.Reason, such as `card_format`.
        detail: one sentence for the technician, without any card number.
    """

    reader: str
    reason: str
    detail: str
    seen_ns: int


@dataclass(frozen=True, slots=True)
class CardGone:
    """The card that was read has left the field; line readers never report it."""

    reader: str
    seen_ns: int


@dataclass(frozen=True, slots=True)
class CardSuspicion:
    """A card that has been read shows a sign of being a copy; comes after its CardRead, at most once a presentation.

    Attributes:
        sign: a value of cards.clones.Sign.
        tail: of the UID, as people may see it.
    """

    reader: str
    sign: str
    seen_ns: int
    tail: str


@dataclass(frozen=True, slots=True)
class ReaderNotice:
    """A condition of the reader itself, such as tampering; only changes are reported.

    Attributes:
        state: `tampered`, `tamper_ended`, `mains_lost`, `mains_back`, `input_1_on`, `input_1_off` and so on.
        detail: one sentence for the technician.
    """

    reader: str
    state: str
    detail: str
    seen_ns: int


ReaderEvent = CardRead | CardRefused | CardGone | CardSuspicion | ReaderNotice


@dataclass(slots=True)
class Vitals:
    """The health of a reader; counters since the process started, readable at any time.

    Attributes:
        state: `starting`, `ready`, `degraded`, `offline` or `faulty`.
        detail: one sentence for the technician.
        dropped: frames that were no number, or that lost a part of theirs; they count as errors too.
        refused: presentations of cards whose number is in another form than the settings say.
        proposal: what the technician may try, from what was dropped or refused last; without any number.
    """

    state: str = "starting"
    detail: str = ""
    firmware: str = ""
    polls: int = 0
    presentations: int = 0
    retries: int = 0
    errors: int = 0
    resets: int = 0
    reopens: int = 0
    dropped: int = 0
    refused: int = 0
    proposal: str = ""
    last_read_ns: int = 0
    counters: dict[str, int] = field(default_factory=dict)


class Reader(Protocol):
    """One reader behind its driver.

    Life: open, then poll again and again, then close. After ReaderOffline the owner calls close, waits, then opens.
    """

    name: str
    vitals: Vitals

    def open(self) -> None:
        """Bring the reader to its polling state within 2 s.

        Raises:
            ReaderOffline: the port is missing or the reader does not answer; back off and try again.
            MissingExtra: the driver needs a package that is not installed.
        """
        ...

    def poll(self) -> list[ReaderEvent]:
        """Run one cycle and return its events, oldest first; returns within 100 ms.

        Raises:
            ReaderOffline: the reader or its port is gone.
        """
        ...

    @property
    def pause_seconds(self) -> float:
        """Return how long the owner should sleep before the next poll; 0 when poll itself waits for data."""
        ...

    def signal(self, signal: Signal) -> bool:
        """Show a signal with the reader's own LED or buzzer; False when it has none. Never raises, never waits."""
        ...

    def close(self) -> None:
        """Release the port; may be called twice and never raises."""
        ...


Look = Generator[float, None, list[ReaderEvent]]
"""One cycle of a reader that yields the seconds for which it leaves the bus alone, and gives what happened."""


@runtime_checkable
class SharingReader(Reader, Protocol):
    """A reader that can leave its bus to others while its frames are on air, and the air to a neighbour.

    Optional: a reader that cannot is polled, and so is one that has its bus for itself, which costs fewer calls.

    Attributes:
        antenna_group: readers of one bus with the same name have antennas so close that only one field may be on at a
            time; empty for none.
        answered: whether a card answered when the last cycle asked for newcomers, so that there may be more.
    """

    antenna_group: str
    answered: bool

    def look(self) -> Look:
        """Start a cycle that does what poll does; the owner resumes it after the seconds it yields.

        Each step of it may raise what poll raises. A look dropped halfway leaves the reader ready for the
        next one. Only one look or poll of a reader may be under way.
        """
        ...

    def field(self, *, on: bool) -> float:
        """Switch the field, before open as well; returns the seconds until a card in it can answer.

        Raises:
            ReaderOffline: the reader or its port is gone.
        """
        ...


class Transports(Protocol):
    """Creates the transports: real ones for the daemon, joined ends for the demo and the tests.

    The results keep the Protocol classes of transports.spi, serial, reset_line, irq_line, gpio_edges and input_events.
    """

    def now_ns(self) -> int:
        """Return the clock that readers use, CLOCK_MONOTONIC except in recordings and tests."""
        ...

    def spi(self, port: str, speed_hz: int) -> Any: ...

    def serial(self, port: str, baud: int, framing: str = "8N1") -> Any: ...

    def reset_line(self, gpio: int) -> Any: ...

    def irq_line(self, gpio: int) -> Any: ...

    def edge_lines(self, port: str, gpios: Sequence[int]) -> Any: ...

    def input_device(self, port: str) -> Any: ...

    def library(self, make: Callable[[Transports], Any]) -> Any:
        """Return what `make` builds: a library used in place of a transport, with its own transports.

        Its methods take and return what JSON can hold, so that a recorder can stand between.
        """
        ...


@dataclass(frozen=True, slots=True)
class Driver:
    """One line of the driver table.

    Attributes:
        module: imported only when a reader of this kind is configured.
        bus: returns the name of the bus a port belongs to; readers on one bus share one thread.
    """

    module: str
    bus: Callable[[str], str] = str


def spi_bus(port: str) -> str:
    """Return `spi0` for `/dev/spidev0.1`; the port itself when it is not a spidev name."""
    _, found, rest = port.rpartition("spidev")
    return f"spi{rest.partition('.')[0]}" if found else port


# Each module has `Options`, a frozen dataclass of its settings, and `make(name, port, options, transports) -> Reader`.
DRIVERS: dict[str, Driver] = {
    "rc522": Driver("gateway.readers.rc522.driver", spi_bus),
    "mfrc522": Driver("gateway.readers.mfrc522_library", spi_bus),
    "serial-line": Driver("gateway.readers.serial_line"),
    "stx-etx": Driver("gateway.readers.stx_etx"),
    "twn4": Driver("gateway.readers.twn4"),
    "pn532": Driver("gateway.readers.pn532"),
    "sl500": Driver("gateway.readers.sl500"),
    "osdp": Driver("gateway.readers.osdp"),
    "wedge": Driver("gateway.readers.wedge"),
    "pcsc": Driver("gateway.readers.pcsc"),
    "wiegand": Driver("gateway.readers.wiegand"),
}


def parse_options(driver: str, table: Mapping[str, Any], problem: Callable[[str, str], None]) -> Any:
    """Turn the driver's own keys of a `[[reader]]` table into its Options.

    Args:
        problem: called with key and message for each key that is unknown or of a wrong type.

    Returns:
        The driver's Options, with defaults in place of the refused keys; None when those are not enough.
    """
    options = importlib.import_module(DRIVERS[driver].module).Options
    known = {item.name: item for item in fields(options)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            problem(
                key, f"is not a setting of driver {driver!r}; its settings are {', '.join(sorted(known)) or 'none'}"
            )
            continue
        expected = _type_of_default(known[key])
        if expected is float and type(value) is int:
            values[key] = float(value)
            continue
        if expected is not None and type(value) is not expected:
            problem(key, f"must be {_WORDS[expected]}, got {_WORDS.get(type(value), 'something else')}")
            continue
        values[key] = value
    try:
        return options(**values)
    except ConfigError as error:
        for text in error.problems:
            key, _, message = text.partition(": ")
            problem(key, message)
    with contextlib.suppress(ConfigError):
        return options()
    # A driver with settings that are required.
    return None


_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
}


def _type_of_default(item: Any) -> type | None:
    if item.metadata.get("type"):
        return item.metadata["type"]  # type: ignore[no-any-return]  # dataclass metadata is an untyped mapping
    return type(item.default) if item.default is not MISSING and item.default is not None else None


def make_reader(driver: str, name: str, port: str, options: Any, transports: Transports) -> Reader:
    """Build one reader; nothing is opened yet.

    Raises:
        MissingExtra: the driver's module needs a package that is not installed.
    """
    try:
        module = importlib.import_module(DRIVERS[driver].module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Driver {driver!r} needs the package {error.name!r}, which is not installed.") from error
    reader: Reader = module.make(name, port, options, transports)
    return reader
