"""A Wiegand reader at the far end of two pins: the records that the kernel would write for its pulses."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from gateway.cards.wiegand import word_of
from gateway.errors import ReaderOffline
from gateway.protocols.wiegand_pulses import record

INTERVAL_NS = 1_000_000


class WiegandWires:
    """EdgeLines whose far end pulses.

    Attributes:
        kept: how many records the kernel keeps; more push the oldest out.
    """

    def __init__(self, port: str, d0: int, d1: int) -> None:
        self.port = port
        self.kept = 1024
        self._pins = (d0, d1)
        self._changed = threading.Condition()
        self._records: list[bytes] = []
        self._number = 0
        self._is_open = False
        self._is_gone = False

    def open(self) -> None:
        with self._changed:
            if self._is_gone:
                raise ReaderOffline(f"{self.port} cannot be monitored (No such file or directory).")
            self._records.clear()
            self._is_open = True

    def read(self, timeout_seconds: float) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._records or not self._is_open or self._is_gone, timeout_seconds)
            if not self._is_open or self._is_gone:
                raise ReaderOffline(f"{self.port} is gone.")
            data = b"".join(self._records)
            self._records.clear()
            return data

    def close(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def pulse(self, edges: Sequence[tuple[int, int]]) -> None:
        """Pull wires low.

        Args:
            edges: nanoseconds of CLOCK_MONOTONIC and wire (0 or 1) of each edge, in their order.
        """
        with self._changed:
            for time_ns, wire in edges:
                self._number += 1
                if self._is_open:
                    self._records.append(record(time_ns, self._pins[wire], self._number))
            del self._records[: -self.kept]
            self._changed.notify_all()

    def send(self, word: int, bits: int, interval_ns: int = INTERVAL_NS) -> None:
        """Send a word; its last pulse is now."""
        start_ns = time.monotonic_ns() - (bits - 1) * interval_ns
        self.pulse([(start_ns + place * interval_ns, word >> (bits - 1 - place) & 1) for place in range(bits)])

    def tap(self, number: bytes) -> None:
        """Hold a card to the reader whose number has 3, 4 or 7 bytes."""
        self.send(*word_of(number))

    def unplug(self) -> None:
        """Take the pins away, as a controller on a bus that is pulled out."""
        with self._changed:
            self._is_gone = True
            self._changed.notify_all()

    def plug(self) -> None:
        with self._changed:
            self._is_gone = self._is_open = False
