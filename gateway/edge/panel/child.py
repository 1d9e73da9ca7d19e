"""Starts the pages' process where no service manager does, and restarts it when it ends."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
from pathlib import Path

log = logging.getLogger(__name__)

_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_STOP_SECONDS = 5.0


class WebChild:
    """`tapgate web` as a child; it ends with the daemon, also when that is killed (its socket closes)."""

    def __init__(self, panel: Path) -> None:
        self._command = [sys.executable, "-m", "gateway", "web", "--panel", str(panel), "--once"]
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="pages", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the child; never raises."""
        self._stopping.set()
        self._end()
        self._thread.join(_STOP_SECONDS)

    def _keep(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                # Standard output is the daemon's own; whoever started it may be reading it.
                self._process = subprocess.Popen(  # noqa: S603  # our own verb
                    self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
            except OSError as error:
                log.error("the pages cannot be started (%s)", error.strerror)  # noqa: TRY400  # the sentence says it all
            else:
                if self._stopping.is_set():
                    self._end()
                code = self._process.wait()
                if self._stopping.is_set():
                    return
                log.warning("the pages ended with code %d and are restarted; taps are not affected", code)
            self._stopping.wait(_PAUSES_SECONDS[min(tries, len(_PAUSES_SECONDS) - 1)])
            tries += 1

    def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
        process.kill()
