"""Shows the last card of one reader in every encoding while somebody looks for the one the MIS uses.

Law of this file: whole card numbers stay in memory only, one card at a time, for WINDOW_SECONDS at most, and only after
somebody at the gateway has opened a window. Nothing here logs or records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.cards.detective import CANDIDATES
from gateway.cards.encodings import encode, project
from gateway.cards.identity import UID_PROJECTION
from gateway.cards.uid import Uid
from gateway.errors import BadCardNumber
from gateway.readers.base import CardRead

WINDOW_SECONDS = 120.0
Watch = Callable[[CardRead], None]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the page shows; `reader` is None while no window is open.

    Attributes:
        forms: encoding and the card's number in it, empty before the first tap.
        note: why there are no forms of a card that was tapped.
    """

    reader: str | None = None
    seconds_left: int = 0
    card_type: str = ""
    forms: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    note: str = ""


class Teaching:
    """One window of teaching at a time.

    Args:
        hook: sets the watcher of the taps, None for none.
        on_change: called when there is something new to show.
    """

    def __init__(
        self,
        hook: Callable[[Watch | None], None],
        on_change: Callable[[], None],
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self._hook, self._on_change, self._window_seconds = hook, on_change, window_seconds
        self._lock = threading.Lock()
        self._reader: str | None = None
        self._ends = 0.0
        self._last: CardRead | None = None
        self._timer: threading.Timer | None = None

    def start(self, reader: str) -> None:
        """Open a window for a reader and end any other."""
        self.stop()
        with self._lock:
            self._reader, self._ends = reader, time.monotonic() + self._window_seconds
            # A timer, so that the number is cleared even when no page is open.
            self._timer = threading.Timer(self._window_seconds, self._expire, (self._ends,))
            self._timer.daemon = True
            self._timer.start()
            self._hook(self._watch)
        self._on_change()

    def stop(self) -> None:
        """Forget the card and stop watching."""
        with self._lock:
            self._close()
        self._on_change()

    def _expire(self, ends: float) -> None:
        with self._lock:
            if ends == self._ends:  # else this timer is an earlier window's
                self._close()
        self._on_change()

    def _close(self) -> None:
        self._hook(None)
        if self._timer:
            self._timer.cancel()
        self._reader = self._last = self._timer = None

    def _watch(self, read: CardRead) -> None:
        # On the bus thread, after the tap was answered; the reader of the lesson makes the forms.
        with self._lock:
            if read.reader != self._reader:
                return
            self._last = read
        self._on_change()

    def lesson(self) -> Lesson:
        """Return what there is to show now."""
        with self._lock:
            reader, read, left = self._reader, self._last, self._ends - time.monotonic()
        if reader is None or left <= 0:
            return Lesson()
        if read is None:
            return Lesson(reader, round(left))
        try:
            whole = project(read.number, UID_PROJECTION)
            uid = Uid(whole.value) if whole else None
        except BadCardNumber:
            uid = None
        if uid is None:
            return Lesson(reader, round(left), read.card_type, note="This reader does not report this card's full UID.")
        return Lesson(reader, round(left), read.card_type, tuple(_forms(uid)))


def _forms(uid: Uid) -> list[tuple[str, str]]:
    forms = []
    for encoding in CANDIDATES:
        try:
            forms.append((encoding, encode(uid, encoding)))
        except BadCardNumber:
            continue  # this form cannot hold a UID of this length
    return forms
