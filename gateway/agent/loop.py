"""The agent as a service: round after round, less and less often while something fails.

Settings, token and site key are read anew for each round, so a new one needs no restart. After a failure a change of
agent.toml, or of a file that it names, lets the next round begin early.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.agent.hub import Hub
from gateway.agent.settings import EVERY_MINUTES, AgentSettings, load_agent
from gateway.agent.work import Agent
from gateway.errors import SourceRefused, TapgateError

log = logging.getLogger(__name__)

BACK_OFF_MINUTES = (1, 5, 15, 60)
# Asked again and again with the same password, a database locks the account.
_LOCKING = frozenset({"refused", "expired"})
_LOOK_SECONDS, _LEAST_SECONDS, _STOP_SECONDS = 10.0, 60.0, 20.0
_State = dict[Path, tuple[int, int] | None]


@contextmanager
def open_agent(settings: AgentSettings, beat: Callable[[], None] = lambda: None) -> Iterator[Agent]:
    """Build the agent of some settings and close its connections afterwards."""
    connector = settings.connector()
    hub = Hub(settings, beat)
    try:
        yield Agent(connector, hub, settings.state_dir)
    finally:
        hub.close()


def pause_minutes(every_minutes: int, failures: int, word: str | None = None) -> int:
    """Return how long to wait before the next round.

    Args:
        failures: how many rounds have failed since the last good one.
        word: with which the source refused the last one.
    """
    if failures == 0:
        return every_minutes
    if word in _LOCKING:
        return BACK_OFF_MINUTES[-1]
    return BACK_OFF_MINUTES[min(failures, len(BACK_OFF_MINUTES)) - 1]


class Loop:
    """Runs rounds on its own thread until it is stopped; `status` is one line about the last one."""

    def __init__(self, config: Path, beat: Callable[[], None]) -> None:
        self._config, self._beat = config, beat
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._before: _State = {}
        self._every_minutes = EVERY_MINUTES
        self.status = "the first round is under way"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the step under way; what was not sent is sent after the next start."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._before = state_of((self._config,))
            word = None
            try:
                self._round()
                failures = 0
            except TapgateError as error:
                failures += 1
                word = error.failure if isinstance(error, SourceRefused) else None
                self._tell(str(error), logging.WARNING)
            except Exception as error:
                # One odd read must not end the service; the next one may be in order.
                failures += 1
                log.exception("the round met a fault of its own")
                self._tell(f"The round met an unexpected fault ({type(error).__name__}).", logging.WARNING)
            minutes = pause_minutes(self._every_minutes, failures, word)
            self._wait(60.0 * minutes, self._before if failures else None)

    def _round(self) -> None:
        settings = load_agent(self._config)
        self._before, self._every_minutes = state_of(settings.named_files()), settings.every_minutes
        with open_agent(settings, self._beat) as agent:
            done = agent.round()
        self._tell("the source reads like last time" if done.is_same else f"{done.sent} lines were sent", logging.INFO)

    def _tell(self, text: str, level: int) -> None:
        # A status of the service manager is one line.
        self.status = " ".join(text.split())
        log.log(level, "%s", self.status)

    def _wait(self, seconds: float, before: _State | None) -> None:
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < seconds:
            self._beat()
            if self._stopping.wait(min(_LOOK_SECONDS, seconds - waited)):
                return
            if before is not None and waited >= _LEAST_SECONDS and state_of(tuple(before)) != before:
                return


def state_of(files: tuple[Path, ...]) -> _State:
    """Return by what a change of each file is seen, None for one that is not there."""
    found: _State = {}
    for path in files:
        try:
            state = path.stat()
            found[path] = (state.st_mtime_ns, state.st_size)
        except OSError:
            found[path] = None
    return found
