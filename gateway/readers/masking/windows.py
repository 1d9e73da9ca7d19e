"""Cuts the bytes of a recording where its driver restarts, and puts them back piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.readers.serial_base import STALE_NS
from gateway.transports.trace import Record


@dataclass(slots=True)
class Window:
    """What arrived between two fresh starts of a parser.

    Attributes:
        request: the bytes of the request before it, empty for readers that send unprompted.
        stale: the driver drops it unread.
        places: which records its bytes stand in, and how many in each.
    """

    request: bytes = b""
    stale: bool = False
    data: bytearray = field(default_factory=bytearray)
    places: list[tuple[int, int]] = field(default_factory=list)

    def add(self, place: int, data: bytes) -> None:
        self.data += data
        self.places.append((place, len(data)))


def request_windows(records: Sequence[Record]) -> list[Window]:
    """Cut a recording of a polled reader at every request."""
    windows = [Window()]
    for place, record in enumerate(records):
        if record[0] == "r":
            windows[-1].add(place, bytes.fromhex(record[1]))
        elif record[0] in {"w", "o", "e"}:
            windows.append(Window(bytes.fromhex(record[1]) if record[0] == "w" else b""))
    return [window for window in windows if window.data]


def talking_windows(
    records: Sequence[Record], idle_gap_ns: int, typed: Callable[[int, Record], bytes] | None = None
) -> list[Window]:
    """Cut a recording of a reader that sends unprompted at every silence, as TalkingReader does.

    Args:
        typed: returns the bytes of a record of key events; None reads serial records.
    """
    windows: list[Window] = []
    current: Window | None = None
    quiet_ns = last_poll_ns = before_ns = 0
    arrived: tuple[int, bytes] | None = None
    for place, record in enumerate(records):
        match record[0]:
            case "o" | "e":
                current, arrived, last_poll_ns, quiet_ns = None, None, 0, 0
            case "r" if typed is None:
                arrived = (place, bytes.fromhex(record[1]))
            case "k" if typed is not None:
                arrived = (place, typed(place, record))
            case "t":
                if arrived is None:
                    before_ns = record[1]
                    last_poll_ns = last_poll_ns or before_ns
                    continue
                now_ns, (where, data), arrived = record[1], arrived, None
                stale = bool(data) and before_ns - last_poll_ns > STALE_NS
                last_poll_ns = now_ns
                quiet_ns += now_ns - before_ns
                if stale or quiet_ns > idle_gap_ns:
                    current = None
                if data:
                    if current is None:
                        current = Window(stale=stale)
                        windows.append(current)
                    current.add(where, data)
                    quiet_ns = 0
                    if stale:
                        current = None
            case _:
                pass
    return windows


def put_back(records: list[Record], window: Window, masked: bytes) -> None:
    """Write a window's masked bytes into its records, each as long as it was."""
    for place, length in window.places:
        records[place] = ["r", masked[:length].hex()]
        masked = masked[length:]
