"""Real daemons on this machine: mosquitto, hubs, gateways with a line reader on a pty."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import tty
import urllib.request
from pathlib import Path
from typing import Any

from tests.brokers import Mosquitto, free_port

SITE, GATEWAY = "st-marys", "gw-canteen"


class Reader:
    """A line reader on a pty."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)

    def tap(self, number: int) -> None:
        os.write(self._master, f"{number:08X}\r".encode())

    def unplug(self) -> None:
        os.close(self._master)


class House:
    """A folder with one site, its broker and every process that a test starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder)
        self.broker.start()
        (folder / "site.key").write_text(bytes(range(32)).hex())
        self.processes: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for process in self.processes:
            # The whole group: a daemon under strace outlives strace.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.broker.stop()

    def _spawn(self, log: str, *words: str, front: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            command = [*front, sys.executable, "-m", "tests.e2e.hasty", *words]
            process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        self.processes.append(process)
        return process

    def hub(
        self, name: str, *words: str, worker: str = "hub-0", log: str | None = None, extra: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start a hub without pages; `name` is its state folder, `extra` more of its site in hub.toml."""
        log = log or f"{name}.log"
        file = self.folder / f"{log}.toml"
        file.write_text(
            f'[hub]\nstate_dir = "{name}"\nbroker = "mqtt://127.0.0.1:{self.broker.port}"\nworker = "{worker}"\n'
            f'signing_key_file = "{name}.key"\n[[site]]\nid = "{SITE}"\nsite_key_file = "site.key"\n'
            f"trust_unenrolled = true\n{extra}"
        )
        return self._spawn(log, *words, "hub", "--config", str(file))

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def gateway(
        self, state: str, reader: Reader, *, kind: str = "kiosk", front: tuple[str, ...] = (), name: str = GATEWAY
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start a gateway; return it with the port of its pages."""
        port = free_port()
        file = self.folder / f"{state}.toml"
        file.write_text(
            f'[gateway]\nid = "{name}"\nsite = "{SITE}"\nsite_key_file = "site.key"\nstate_dir = "{state}"\n'
            f'[hub]\nurl = "mqtt://127.0.0.1:{self.broker.port}"\n[web]\nport = {port}\n'
            f'[[reader]]\nid = "r"\ndriver = "serial-line"\nport = "{reader.path}"\npoint = "p"\n'
            f'[[point]]\nid = "p"\nkind = "{kind}"\n'
        )
        return self._spawn(f"{state}.log", "run", "--config", str(file), front=front), port

    def taps(self, hub: str) -> int:
        """Return how many taps a hub holds."""
        path = self.folder / hub / "hub.db"
        if not path.exists():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return int(connection.execute("SELECT count(*) FROM event WHERE kind = 'tap'").fetchone()[0])
        except sqlite3.OperationalError:
            # The hub is just making its tables.
            return 0


def status(port: int) -> dict[str, Any]:
    """Return /v1/status of a gateway; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=5) as answer:
            return dict(json.load(answer))
    except OSError:
        return {}
