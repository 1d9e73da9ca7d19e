"""Timekeeping on a Pi without a clock chip: the time, how far to trust it, and the record that corrects earlier stamps.

After a power cut the system time is that of the last shutdown, or 1970, until a time server answers. So every event
carries the quality of the clock and the seconds since boot; when the clock is set for the first time in a boot one
record maps the boot's seconds to real time (see access.timeline). Earlier stamps are never rewritten.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.access.event import ClockQuality

_TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")
_RTC_FOLDER = Path("/sys/class/rtc")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOOK_SECONDS = 1.0
_STEP_SECONDS = 0.5
_TIME_ERROR = 5
_STA_UNSYNC = 0x40
# NTP_PHASE_LIMIT of the kernel (include/linux/timex.h).
_UNKEPT_ERROR_US = 16_000_000
# timesyncd maintains the kernel's error bound; where the kernel reports none, assume one second.
UNKNOWN_ERROR_MS = 1000


class _Timex(ctypes.Structure):
    # struct timex of adjtimex(2), as far as it is read here; the rest is padding that the kernel fills.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


@dataclass(frozen=True, slots=True)
class KernelClock:
    """The kernel's view of its clock; `error_ms` is its error bound."""

    synchronised: bool
    error_ms: int


def read_kernel_clock() -> KernelClock:
    """Read adjtimex(2); an error counts as not synchronised."""
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return judge_kernel_clock(state, timex.status, timex.maxerror)


def judge_kernel_clock(state: int, status: int, maxerror_us: int) -> KernelClock:
    """Return what a result of adjtimex(2) means, whichever time service keeps the clock.

    STA_UNSYNC alone does not mean unsynchronised: chrony leaves it set unless its configuration has `rtcsync`, so that
    the kernel does not write the clock chip. The error bound decides then: a time service keeps renewing it, and
    without one the kernel lets it grow to 16 s. systemd's timedated uses the same test.
    """
    if state < 0:
        return KernelClock(synchronised=False, error_ms=UNKNOWN_ERROR_MS)
    synchronised = (state != _TIME_ERROR and not status & _STA_UNSYNC) or 0 < maxerror_us < _UNKEPT_ERROR_US
    return KernelClock(synchronised, max(1, maxerror_us // 1000))


@dataclass(frozen=True, slots=True)
class Stamp:
    """The three fields of time that every event carries."""

    at: str
    clock: ClockQuality
    up: float


class Clock:
    """The clock of a gateway; callable from any thread.

    Args:
        floor: a time that is known to be past, such as the last trusted event or the making of the roster.
        kernel: reads the kernel's view of its clock; tests pass their own.
        wall: the system's seconds since 1970.
        boottime: seconds since boot, suspended time included.
    """

    def __init__(
        self,
        floor: datetime | None = None,
        *,
        kernel: Callable[[], KernelClock] = read_kernel_clock,
        wall: Callable[[], float] = time.time,
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        timesync_mark: Path = _TIMESYNC_MARK,
        rtc_folder: Path = _RTC_FOLDER,
        boot_id: str | None = None,
    ) -> None:
        self._kernel = kernel
        self._wall = wall
        self._boottime = boottime
        self._timesync_mark = timesync_mark
        self._lock = threading.Lock()
        self._has_rtc = _has_rtc(rtc_folder)
        self.boot_id = boot_id or _read_boot_id()
        self._quality: ClockQuality = "free"
        self._error_ms = UNKNOWN_ERROR_MS
        self._looked_at = float("-inf")
        self._floor = 0.0
        self._floor_up = boottime()
        self._recorded: float | None = None
        self._announced = False
        if floor:
            self.raise_floor(floor)

    def raise_floor(self, known_past: datetime) -> None:
        """Note a time that is certainly past; while the clock is not set, no earlier time is returned."""
        with self._lock:
            moment, up = known_past.timestamp(), self._boottime()
            if moment > self._floor + (up - self._floor_up):
                self._floor, self._floor_up = moment, up

    @property
    def quality(self) -> ClockQuality:
        """Return the source of the time: `ntp`, `rtc` (a clock chip) or `free` (none)."""
        with self._lock:
            self._look()
            return self._quality

    @property
    def is_set(self) -> bool:
        """Return whether the time is good enough for schedules: from a time server or clock chip, or set in this boot.

        A clock that loses its time server keeps time within seconds a day, far better than any schedule needs, although
        the kernel calls it unsynchronised after some hours.
        """
        with self._lock:
            self._look()
            return self._quality != "free" or self._recorded is not None

    @property
    def error_ms(self) -> int:
        """Return the kernel's bound of the error; means something only with quality `ntp`."""
        with self._lock:
            self._look()
            return self._error_ms

    def stamp(self) -> Stamp:
        """Return the time fields of an event that happens now."""
        with self._lock:
            self._look()
            up = self._boottime()
            return Stamp(_text(self._seconds(up)), self._quality, round(up, 3))

    def now(self) -> datetime:
        """Return the time for decisions: the system's, and while the clock is unset no earlier than the known past."""
        with self._lock:
            self._look()
            return datetime.fromtimestamp(self._seconds(self._boottime()), UTC)

    def due_record(self) -> dict[str, Any] | None:
        """Return the content of the `clock` event that should be journaled now, None when none is due.

        One when a boot starts with an unset clock, one when it is first synchronised, and one when
        a synchronised clock jumps by more than half a second. Call about once a second.
        """
        with self._lock:
            self._look(fresh=True)
            up, wall = self._boottime(), self._wall()
            offset = wall - up
            if self._quality != "ntp":
                if self._announced or self._recorded is not None:
                    return None
                self._announced = True
                return self._record(up, wall, synchronised=False)
            step = 0.0 if self._recorded is None else offset - self._recorded
            if self._recorded is not None and abs(step) <= _STEP_SECONDS:
                # NTP slews the clock; slow drift between two calls is not a jump.
                self._recorded = offset
                return None
            self._recorded = offset
            record = self._record(up, wall, synchronised=True)
            if step:
                record["stepped_ms"] = round(step * 1000)
            return record

    def _record(self, up: float, wall: float, *, synchronised: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "boot_id": self.boot_id,
            "up": round(up, 3),
            "wall": _text(wall),
            "synchronised": synchronised,
        }
        if synchronised:
            record["error_ms"] = self._error_ms
        return record

    def _seconds(self, up: float) -> float:
        wall = self._wall()
        return wall if self._quality == "ntp" else max(wall, self._floor + up - self._floor_up)

    def _look(self, *, fresh: bool = False) -> None:
        up = self._boottime()
        if not fresh and up - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = up
        kernel = self._kernel()
        self._error_ms = kernel.error_ms
        if kernel.synchronised or self._timesync_mark.exists():
            self._quality = "ntp"
        else:
            # A clock chip with a flat battery reports a time long past.
            behind = self._wall() < self._floor + up - self._floor_up
            self._quality = "rtc" if self._has_rtc and not behind else "free"


def _has_rtc(folder: Path) -> bool:
    # hctosys is 1 at the clock chip from which the kernel set its time.
    for mark in folder.glob("rtc*/hctosys"):
        try:
            if mark.read_text(encoding="ascii").strip() == "1":
                return True
        except OSError:
            continue
    return False


def _read_boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")[:16]
    except OSError:
        return ""


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
