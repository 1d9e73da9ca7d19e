"""Service manager support for a daemon: readiness and watchdog notices, and a clean stop.

The watchdog is fed only while every registered loop has beaten within its own deadline, so a hung reader thread or
writer gets the process restarted, and a free-running timer cannot hide it. sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

log = logging.getLogger(__name__)


def sd_notify(text: str) -> bool:
    """Send one notice to the service manager; False when there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notices:
            notices.connect(address)
            notices.sendall(text.encode())
    except OSError as error:
        log.warning("%r could not be sent to the service manager: %s", text, error)
        return False
    return True


def is_supervised() -> bool:
    """Return whether a service manager started this process, and so will start it again."""
    return "NOTIFY_SOCKET" in os.environ


class Beats:
    """The loops that must keep running, each with its deadline in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._loops: dict[str, tuple[float, float]] = {}

    def register(self, name: str, deadline_seconds: float) -> Callable[[], None]:
        """Add a loop; it calls the result each time round."""

        def beat() -> None:
            self._loops[name] = (self._clock(), deadline_seconds)

        with self._lock:
            beat()
        return beat

    def forget(self, name: str) -> None:
        """Remove a loop that ended on purpose."""
        with self._lock:
            self._loops.pop(name, None)

    def overdue(self) -> list[str]:
        """Return the loops that did not beat within their deadline."""
        now = self._clock()
        with self._lock:
            return [name for name, (at, deadline) in self._loops.items() if now - at > deadline]


class StopSignal:
    """Takes SIGTERM and SIGINT from the moment it is made until `restore`; make it in the main thread."""

    def __init__(self) -> None:
        self.received = threading.Event()
        self._previous = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}

    def _take(self, number: int, _frame: FrameType | None) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        self.received.set()

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def run_service(
    beats: Beats,
    stop: Callable[[], None],
    status: Callable[[], str] | None = None,
    stop_signal: StopSignal | None = None,
) -> None:
    """Report that the daemon is ready, feed the watchdog, and stop it on SIGTERM or SIGINT.

    Call from the main thread after everything was started; returns when `stop` has returned.

    Args:
        stop_signal: made before the start, where a signal during the start must not end the process as it is.
    """
    signals = stop_signal or StopSignal()
    watchdog_seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    pause = watchdog_seconds / 3 if watchdog_seconds else 5.0
    sd_notify("READY=1")
    try:
        while not signals.received.wait(pause):
            overdue = beats.overdue()
            if overdue:
                log.error("these loops are not responding: %s", ", ".join(overdue))
                sd_notify(f"STATUS=not responding: {', '.join(overdue)}")
                continue
            sd_notify("WATCHDOG=1" + (f"\nSTATUS={status()}" if status else ""))
    finally:
        sd_notify("STOPPING=1")
        stop()
        signals.restore()
