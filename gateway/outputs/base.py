"""The contract of outputs, and the switchboard that routes an Action to its output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.errors import OutputFailed
from gateway.points.actions import Action, Done, Failed, Lock, Outcome, Record, Show, Signal, Tell, Unlock

log = logging.getLogger(__name__)


class Strike(Protocol):
    """The lock of one door. Calls come from several threads and must not wait."""

    def unlock(self, unlock_seconds: float) -> None:
        """Assert the strike; it must release by itself after this time, even if the daemon's timers fail.

        Raises:
            OutputFailed: the pin cannot be driven.
        """
        ...

    def lock(self) -> None:
        """Release the strike.

        Raises:
            OutputFailed: the pin cannot be driven.
        """
        ...


class Switchboard:
    """Routes each Action to its output; `perform` returns Done or Failed and never raises.

    Args:
        strikes: by point.
        tell: shows a signal at a reader; False when the reader has neither LED nor buzzer.
        show: puts a message on the screens of a point.
    """

    def __init__(
        self,
        strikes: Mapping[str, Strike],
        tell: Callable[[str, Signal], bool],
        show: Callable[[Show], None],
    ) -> None:
        self._strikes, self._tell, self._show = strikes, tell, show

    def perform(self, action: Action) -> Outcome:
        """Perform one action; a failure is logged and returned, so that a stuck relay still leaves its record."""
        try:
            match action:
                case Unlock(point, unlock_seconds):
                    if point in self._strikes:
                        self._strikes[point].unlock(unlock_seconds)
                case Lock(point):
                    if point in self._strikes:
                        self._strikes[point].lock()
                case Tell(reader, signal):
                    self._tell(reader, signal)
                case Show():
                    self._show(action)
                case Record():
                    return Failed("A record is written by the tapline, not by an output.")
        except OutputFailed as error:
            log.error("%s", error)  # noqa: TRY400  # the sentence says it all; a traceback helps nobody at a door
            return Failed(str(error))
        except Exception as error:
            log.exception("an output failed unexpectedly")
            return Failed(f"An output failed: {type(error).__name__}.")
        return Done()
