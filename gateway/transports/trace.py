"""Record and replay at the wire: a field fault becomes a file that the real driver can be run on again.

Everything a driver can see is written down: what it sent, what came back, which errors, and each time it looked at the
clock. So a replay takes the same turns as the original, as fast as the machine can. One JSON array a line:

    ["v", 1, driver, options]    first line: what was recorded
    ["t", nanoseconds]           the driver looked at the clock
    ["o"]                        open
    ["s", [sent..], [got..]]     an SPI message, hex strings
    ["r", got] ["w", sent]       serial read and write
    ["p"] ["i", came]            an interrupt pin was taken; waited for, and whether its edge came
    ["k", [[type, code, value]..]]   input events of a keyboard
    ["c", name, [arguments..], result]   a call to a library that stands in the place of a wire
    ["e", text]                  the step before failed with ReaderOffline

A raw file holds card numbers and must not leave the gateway; readers.masking replaces them.
"""

from __future__ import annotations

import array
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from gateway.errors import FatalError, ReaderOffline
from gateway.transports.gpio_edges import EdgeLines
from gateway.transports.input_events import InputEvent, InputTransport
from gateway.transports.irq_line import IrqLine
from gateway.transports.reset_line import ResetLine
from gateway.transports.serial import SerialTransport
from gateway.transports.spi import SpiMessage, SpiTransport

VERSION = 1
Record = list[Any]


class Wires(Protocol):
    """What a recorder wraps."""

    def spi(self, port: str, speed_hz: int) -> SpiTransport: ...

    def serial(self, port: str, baud: int, framing: str = "8N1") -> SerialTransport: ...

    def reset_line(self, gpio: int) -> ResetLine: ...

    def irq_line(self, gpio: int) -> IrqLine: ...

    def edge_lines(self, port: str, gpios: Sequence[int]) -> EdgeLines: ...

    def input_device(self, port: str) -> InputTransport: ...

    def library(self, make: Callable[[Any], Any]) -> Any: ...

    def now_ns(self) -> int: ...


class Recorder:
    """Transports that write down what passes through them.

    Args:
        out: takes one line a record; close it after the reader.
    """

    def __init__(self, wires: Wires, out: TextIO, driver: str, options: dict[str, Any]) -> None:
        self._wires = wires
        self._out = out
        self.note(["v", VERSION, driver, options])

    def note(self, record: Record) -> None:
        self._out.write(json.dumps(record, separators=(",", ":")) + "\n")

    def guard(self, step: Callable[[], Any], failed: Record | None = None) -> Any:
        """Take a step; when it fails, note `failed` and the error after it."""
        try:
            return step()
        except ReaderOffline as error:
            if failed:
                self.note(failed)
            self.note(["e", str(error)])
            raise

    def now_ns(self) -> int:
        now_ns = self._wires.now_ns()
        self.note(["t", now_ns])
        return now_ns

    def spi(self, port: str, speed_hz: int) -> _RecordedSpi:
        return _RecordedSpi(self._wires.spi(port, speed_hz), self)

    def reset_line(self, gpio: int) -> ResetLine:
        return self._wires.reset_line(gpio)

    def edge_lines(self, port: str, gpios: Sequence[int]) -> EdgeLines:
        # Its driver is not recorded; see readers.masking.
        return self._wires.edge_lines(port, gpios)

    def irq_line(self, gpio: int) -> _RecordedIrq:
        return _RecordedIrq(self._wires.irq_line(gpio), self)

    def input_device(self, port: str) -> _RecordedInput:
        return _RecordedInput(self._wires.input_device(port), self)

    def library(self, make: Callable[[Any], Any]) -> Any:
        # Its own wires stay unrecorded: what it says on them may be encrypted, and is never the same twice.
        return _RecordedCalls(make(self._wires), self)

    def serial(self, port: str, baud: int, framing: str = "8N1") -> _RecordedSerial:
        return _RecordedSerial(self._wires.serial(port, baud, framing), self)


class _Recorded:
    """One wire; a step that fails leaves its error after it."""

    def __init__(self, wire: Any, recorder: Recorder) -> None:
        self.port: str = wire.port
        self._wire = wire
        self._note, self._guard = recorder.note, recorder.guard

    def open(self) -> None:
        self._note(["o"])
        self._guard(self._wire.open)

    def close(self) -> None:
        self._wire.close()


class _RecordedSpi(_Recorded):
    @property
    def single(self) -> bool:
        return bool(self._wire.single)

    @single.setter
    def single(self, value: bool) -> None:
        self._wire.single = value

    def exchange(self, message: SpiMessage) -> None:
        sent = [item.tobytes().hex() for item in message.tx]
        self._guard(lambda: self._wire.exchange(message), ["s", sent, []])
        self._note(["s", sent, [item.tobytes().hex() for item in message.rx]])

    def set_speed(self, speed_hz: int) -> None:
        self._wire.set_speed(speed_hz)


class _RecordedSerial(_Recorded):
    def read(self, timeout_seconds: float) -> bytes:
        data: bytes = self._guard(lambda: self._wire.read(timeout_seconds), ["r", ""])
        self._note(["r", data.hex()])
        return data

    def write(self, data: bytes) -> None:
        self._note(["w", data.hex()])
        self._guard(lambda: self._wire.write(data))


class _RecordedInput(_Recorded):
    def read(self, timeout_seconds: float) -> list[InputEvent]:
        events: list[InputEvent] = self._guard(lambda: self._wire.read(timeout_seconds), ["k", []])
        self._note(["k", events])
        return events


class _RecordedIrq:
    def __init__(self, line: IrqLine, recorder: Recorder) -> None:
        self._line = line
        self._note, self._guard = recorder.note, recorder.guard

    def open(self) -> None:
        self._note(["p"])
        self._guard(self._line.open)

    def drain(self) -> None:
        self._line.drain()

    def wait(self, seconds: float) -> bool:
        came = self._line.wait(seconds)
        self._note(["i", came])
        return came

    def close(self) -> None:
        self._line.close()


class _RecordedCalls:
    """Whatever methods the library has; they take and return what JSON can hold."""

    def __init__(self, library: Any, recorder: Recorder) -> None:
        self._library = library
        self._note, self._guard = recorder.note, recorder.guard

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._library, name)

        def call(*arguments: Any) -> Any:
            result = self._guard(lambda: method(*arguments), ["c", name, arguments, None])
            self._note(["c", name, arguments, result])
            return result

        return call


class ReplayEnded(ReaderOffline):
    """The recording is over."""


class ReplayDiverged(FatalError):
    """The driver does something else than it did when this was recorded."""


def load(path: Path) -> list[Record]:
    """Read a recording.

    Raises:
        FatalError: it is none, or of a later version.
    """
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not records or records[0][:2] != ["v", VERSION]:
        raise FatalError(f"{path} is no reader recording of version {VERSION}.")
    return records


class Replay:
    """Transports that play a recording back; they never wait.

    Attributes:
        driver: what was recorded, with its options.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        everything = list(records)
        self.driver: str = everything[0][2]
        self.options: dict[str, Any] = everything[0][3]
        self._left: Iterator[tuple[int, Record]] = iter(enumerate(everything[1:], 2))
        self._next: tuple[int, Record] | None = next(self._left, None)
        self._now_ns = time.monotonic_ns()

    def take(self, kind: str) -> Record:
        if self._next is None:
            raise ReplayEnded("The recording is over.")
        line, record = self._next
        if record[0] != kind:
            raise ReplayDiverged(f"Line {line} of the recording holds {record[0]!r}, the driver now does {kind!r}.")
        self._next = next(self._left, None)
        return record

    def is_next(self, *start: Any) -> bool:
        """Return whether the next record begins so; false at the end."""
        return self._next is not None and tuple(self._next[1][: len(start)]) == start

    def fail_if_recorded(self) -> None:
        if self._next is not None and self._next[1][0] == "e":
            raise ReaderOffline(self.take("e")[1])

    def now_ns(self) -> int:
        if self._next is not None:
            self._now_ns = self.take("t")[1]
        return self._now_ns

    def spi(self, port: str, speed_hz: int) -> _ReplayedSpi:
        del speed_hz
        return _ReplayedSpi(port, self)

    def reset_line(self, gpio: int) -> ResetLine:
        del gpio
        return _NoResetLine()

    def irq_line(self, gpio: int) -> IrqLine:
        del gpio
        return _ReplayedIrq(self)

    def edge_lines(self, port: str, gpios: Sequence[int]) -> EdgeLines:
        raise FatalError(f"There are no recordings of {port}, {len(gpios)} pins.")

    def input_device(self, port: str) -> _ReplayedInput:
        return _ReplayedInput(port, self)

    def library(self, make: Callable[[Any], Any]) -> Any:
        del make
        return _ReplayedCalls(self)

    def serial(self, port: str, baud: int, framing: str = "8N1") -> _ReplayedSerial:
        del baud, framing
        return _ReplayedSerial(port, self)


class _NoResetLine:
    def pulse(self) -> None:
        """What the pin did is in the recording."""


class _Replayed:
    """One wire out of a recording."""

    def __init__(self, port: str, replay: Replay) -> None:
        self.port = port
        self._replay = replay

    def open(self) -> None:
        self._replay.take("o")
        self._replay.fail_if_recorded()

    def close(self) -> None:
        """Nothing is open."""


class _ReplayedSpi(_Replayed):
    single = False

    def exchange(self, message: SpiMessage) -> None:
        _, sent, got = self._replay.take("s")
        if sent != [item.tobytes().hex() for item in message.tx]:
            raise ReplayDiverged("The driver now sends other bytes than it did when this was recorded.")
        self._replay.fail_if_recorded()
        for buffer, text in zip(message.rx, got, strict=True):
            buffer[:] = array.array("B", bytes.fromhex(text))

    def set_speed(self, speed_hz: int) -> None:
        """A recording has its own pace."""


class _ReplayedSerial(_Replayed):
    def read(self, timeout_seconds: float) -> bytes:
        del timeout_seconds
        data = bytes.fromhex(self._replay.take("r")[1])
        self._replay.fail_if_recorded()
        return data

    def write(self, data: bytes) -> None:
        if self._replay.take("w")[1] != data.hex():
            raise ReplayDiverged("The driver now sends other bytes than it did when this was recorded.")
        self._replay.fail_if_recorded()


class _ReplayedInput(_Replayed):
    def read(self, timeout_seconds: float) -> list[InputEvent]:
        del timeout_seconds
        events = [(kind, code, value) for kind, code, value in self._replay.take("k")[1]]
        self._replay.fail_if_recorded()
        return events


class _ReplayedIrq:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def open(self) -> None:
        self._replay.take("p")
        self._replay.fail_if_recorded()

    def drain(self) -> None:
        """Only what was waited for is in the recording."""

    def wait(self, seconds: float) -> bool:
        del seconds
        came: bool = self._replay.take("i")[1]
        return came

    def close(self) -> None:
        """Nothing is open."""


class _ReplayedCalls:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name == "close" and not self._replay.is_next("c", name):
                # A driver closes what is lost, also when the recording ends with the loss.
                return None
            _, recorded, given, result = self._replay.take("c")
            if (recorded, given) != (name, list(arguments)):
                raise ReplayDiverged(f"The driver now calls {name}, the recording holds {recorded} with what it gave.")
            self._replay.fail_if_recorded()
            return result

        return call
