"""Runs PC/SC on its own thread, because its calls have no time limit.

Measured with pcscd 1.9.9: connecting to a card 87 ms, one exchange 44 ms, and for ever when a card stops in the middle
of one. A bus thread has 100 ms a poll, so it takes from a queue here. pyscard's own monitor dies when pcscd restarts,
so its plain functions are used; with a context of a pcscd that is gone some of them raise SystemError.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

from gateway.errors import MissingExtra, ReaderOffline

# PC/SC part 3, section 3.2.2.1.3
GET_UID = "ffca000000"
_WAIT_MS = 250
_OPEN_SECONDS = 1.8
_FIND_SECONDS = 1.5
_STUCK_SECONDS = 5.0
_STOP_SECONDS = 0.3
# A card that is there and was not read is tried again, soon at first: it may just be coming into the field.
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
# pcscd takes this name for "tell me when a reader comes or goes".
_PLUGGED = "\\\\?PnP?\\Notification"

# First status bytes that say "not this time": no answer from the card, or an error without diagnosis.
_PASSING = (0x63, 0x64, 0x6F)

Happening = dict[str, Any]


class _Gone(Exception):
    """PC/SC or the reader is gone; the text says why."""


class _Worker(threading.Thread):
    """One life of one watch; it may outlast its owner when a call hangs, and then ends by itself."""

    def __init__(self, scard: Any, part: str) -> None:
        super().__init__(name=f"pcsc {part}", daemon=True)
        self.happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self.busy_since = 0.0
        self._scard = scard
        self._part = part
        self._context: Any = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        context = self._context
        if context is not None:
            with contextlib.suppress(SystemError):
                self._scard.SCardCancel(context)
        self.join(_STOP_SECONDS)

    def run(self) -> None:
        try:
            self._watch()
        except _Gone as error:
            self.happenings.put({"what": "gone", "why": str(error)})
        finally:
            context, self._context = self._context, None
            if context is not None:
                self._call("SCardReleaseContext", context)

    def _call(self, name: str, *arguments: Any) -> Any:
        self.busy_since = time.monotonic()
        try:
            result = getattr(self._scard, name)(*arguments)
        except SystemError:
            result = self._scard.SCARD_E_INVALID_HANDLE
        finally:
            self.busy_since = 0.0
        return result if isinstance(result, list | tuple) else [result]

    def _watch(self) -> None:
        scard = self._scard
        result, *rest = self._call("SCardEstablishContext", scard.SCARD_SCOPE_SYSTEM)
        if result == scard.SCARD_W_SECURITY_VIOLATION:
            raise _Gone("pcscd denies access to this user; install systemd/50-tapgate-pcsc.rules for polkit.")
        if result != scard.SCARD_S_SUCCESS:
            raise _Gone("pcscd is not running; install and start it.")
        self._context = rest[0]
        name = self._find()
        self.happenings.put({"what": "ready", "reader": name})
        known, misses = scard.SCARD_STATE_UNAWARE, 0
        while not self._stopping.is_set():
            event = self._next_state(name, known)
            if event is None:
                continue
            known = event & ~scard.SCARD_STATE_CHANGED
            if not event & scard.SCARD_STATE_PRESENT:
                self.happenings.put({"what": "empty"})
                misses = 0
            elif event & scard.SCARD_STATE_MUTE:
                self.happenings.put({"what": "mute"})
            elif self._read(name):
                misses = 0
            else:
                self._stopping.wait(_RETRY_SECONDS[min(misses, len(_RETRY_SECONDS) - 1)])
                misses += 1
                known = scard.SCARD_STATE_UNAWARE

    def _find(self) -> str:
        # After a start of pcscd its readers come one by one.
        scard, end = self._scard, time.monotonic() + _FIND_SECONDS
        while True:
            result, *rest = self._call("SCardListReaders", self._context, [])
            names = rest[0] if result == scard.SCARD_S_SUCCESS else []
            for name in names:
                if self._part in name:
                    return str(name)
            left_ms = int((end - time.monotonic()) * 1000)
            if left_ms <= 0 or self._stopping.is_set():
                raise _Gone(f"PC/SC has no reader {self._part!r}; plug it in, and keep pn533_usb and nfc from loading.")
            before = time.monotonic()
            plugged = [(_PLUGGED, scard.SCARD_STATE_UNAWARE)]
            self._call("SCardGetStatusChange", self._context, min(left_ms, _WAIT_MS), plugged)
            if time.monotonic() - before < 0.01:
                self._stopping.wait(0.05)

    def _next_state(self, name: str, known: int) -> int | None:
        scard = self._scard
        result, *rest = self._call("SCardGetStatusChange", self._context, _WAIT_MS, [(name, known)])
        if result in {scard.SCARD_E_TIMEOUT, scard.SCARD_E_CANCELLED}:
            return None
        if result != scard.SCARD_S_SUCCESS or not rest or not rest[0]:
            raise _Gone("pcscd has stopped answering.")
        _, event, _ = rest[0][0]
        if event & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE):
            raise _Gone(f"PC/SC reader {name} is gone; plug it in again.")
        return int(event)

    def _read(self, name: str) -> bool:
        """Read the card's UID and report it; False when it could not be read."""
        scard = self._scard
        result, *rest = self._call(
            "SCardConnect",
            self._context,
            name,
            scard.SCARD_SHARE_SHARED,
            scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1,
        )
        if result != scard.SCARD_S_SUCCESS:
            self._missed("connect", result)
            return False
        card, protocol = rest
        result, *rest = self._call("SCardTransmit", card, protocol, list(bytes.fromhex(GET_UID)))
        self._call("SCardDisconnect", card, scard.SCARD_LEAVE_CARD)
        if result != scard.SCARD_S_SUCCESS:
            self._missed("exchange", result)
            return False
        answer = bytes(rest[0])
        if len(answer) < 2 or answer[-2] in _PASSING:
            # A card that is pulled in the middle may be a success without a single byte.
            self._missed("answer", int.from_bytes(answer[-2:], "big"))
            return False
        self.happenings.put({"what": "answer", "apdu": GET_UID, "data": answer.hex()})
        return True

    def _missed(self, step: str, result: int) -> None:
        self.happenings.put({"what": "missed", "step": step, "code": f"{result & 0xFFFFFFFF:08X}"})


class PcscWatch:
    """Watches one reader; its methods return what JSON can hold.

    Args:
        part: the reader's name as pcscd gives it, or part of it, or empty for the first one.
    """

    def __init__(self, part: str) -> None:
        self._part = part
        self._worker: _Worker | None = None
        self._gone = ""

    def open(self) -> str:
        """Return the reader's whole name, within 2 s.

        Raises:
            ReaderOffline: pcscd does not run, has no such reader, or a call of the life before still hangs.
            MissingExtra: pyscard is not installed.
        """
        try:
            from smartcard import scard  # noqa: PLC0415  # only this driver needs it
        except ImportError as error:
            raise MissingExtra("Driver pcsc needs pyscard; install tapgate[pcsc] and pcscd.") from error
        self.close()
        if self._worker is not None:
            raise ReaderOffline(f"PC/SC still hangs with reader {self._part!r}; unplug it, or restart pcscd.")
        self._gone = ""
        self._worker = worker = _Worker(scard, self._part)
        worker.start()
        try:
            first = worker.happenings.get(timeout=_OPEN_SECONDS)
        except queue.Empty:
            first = {"what": "gone", "why": "pcscd does not answer; restart it."}
        if first["what"] == "gone":
            self.close()
            raise ReaderOffline(first["why"])
        return str(first["reader"])

    def take(self, wait_ms: int) -> list[Happening]:
        """Return what has happened, waiting for the first at most this long.

        Returns:
            `{"what": "empty"}`, `{"what": "mute"}`, `{"what": "missed", "step": .., "code": ..}` or
            `{"what": "answer", "apdu": hex, "data": hex}`, oldest first.

        Raises:
            ReaderOffline: PC/SC or the reader is gone, or hangs in one call for 5 s.
        """
        worker = self._worker
        if worker is None:
            raise ReaderOffline(f"PC/SC reader {self._part!r} is not open.")
        if self._gone:
            raise ReaderOffline(self._gone)
        happened: list[Happening] = []
        try:
            happened.append(worker.happenings.get(timeout=wait_ms / 1000))
            while happened[-1]["what"] != "gone":
                happened.append(worker.happenings.get_nowait())
        except queue.Empty:
            pass
        if happened and happened[-1]["what"] == "gone":
            self._gone = happened.pop()["why"]
            if not happened:
                raise ReaderOffline(self._gone)
        busy_since = worker.busy_since
        if busy_since and time.monotonic() - busy_since > _STUCK_SECONDS:
            raise ReaderOffline(f"PC/SC hangs with reader {self._part!r}; unplug it, or restart pcscd.")
        return happened

    def close(self) -> None:
        worker = self._worker
        if worker is None:
            return
        worker.stop()
        if not worker.is_alive():
            # A hung worker is kept, so that no more pile up.
            self._worker = None
