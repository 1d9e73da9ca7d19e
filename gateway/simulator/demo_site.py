"""The school of the demo: its files, its processes, and the hub's final record."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import FatalError
from gateway.simulator.school import School

SITE = "st-marys"
START_SECONDS = 90.0
_STOP_SECONDS = 20.0
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DemoReader:
    id: str
    driver: str
    port: str
    point: str


@dataclass(frozen=True, slots=True)
class DemoGateway:
    """One gateway of the demo: its readers, and its points as (id, kind)."""

    id: str
    readers: tuple[DemoReader, ...]
    points: tuple[tuple[str, str], ...]


GATEWAYS = (
    DemoGateway(
        "gw-canteen",
        (
            DemoReader("lane-1", "rc522", "/dev/spidev0.0", "lane-1"),
            DemoReader("lane-2", "rc522", "/dev/spidev0.1", "lane-2"),
        ),
        (("lane-1", "lane"), ("lane-2", "lane")),
    ),
    DemoGateway(
        "gw-front",
        (
            DemoReader("front-in", "serial-line", "/dev/tapgate/front-in", "front-door"),
            DemoReader("reception", "rc522", "/dev/spidev0.0", "reception"),
        ),
        (("front-door", "door"), ("reception", "kiosk")),
    ),
)


def free_port(preferred: int) -> int:
    """Return the preferred port when it is free, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
            taken: int = probe.getsockname()[1]
            return taken
    raise FatalError("This machine has no free port left for the demo's pages.")


def write_site(folder: Path, school: School, broker_url: str, ports: list[int]) -> None:
    """Write the site key, the people and the configuration of the hub and of every gateway."""
    (folder / "site.key").write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    (folder / "site.key").chmod(0o600)
    school.write_csv(folder / "people.csv")
    (folder / "hub.toml").write_text(_hub_toml(broker_url, ports[0]), encoding="utf-8")
    for gateway, port in zip(GATEWAYS, ports[1:], strict=True):
        (folder / f"{gateway.id}.toml").write_text(_gateway_toml(gateway, broker_url, port), encoding="utf-8")


def _hub_toml(broker_url: str, port: int) -> str:
    return f"""\
[hub]
state_dir = "hub"
broker = "{broker_url}"
signing_key_file = "hub.key"

[web]
port = {port}

[[site]]
id = "{SITE}"
name = "St Mary's"
site_key_file = "site.key"

{"".join(f'[[site.gateway]]{chr(10)}id = "{gateway.id}"{chr(10)}' for gateway in GATEWAYS)}
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
card_encoding = "hex-msb"
"""


def _gateway_toml(gateway: DemoGateway, broker_url: str, port: int) -> str:
    lines = [
        "[gateway]",
        f'id = "{gateway.id}"',
        f'site = "{SITE}"',
        f'state_dir = "{gateway.id}"',
        'site_key_file = "site.key"',
        "[hub]",
        f'url = "{broker_url}"',
        "offline_after_seconds = 3",
        "[web]",
        f"port = {port}",
    ]
    for reader in gateway.readers:
        lines += ["[[reader]]", f'id = "{reader.id}"', f'driver = "{reader.driver}"']
        lines += [f'port = "{reader.port}"', f'point = "{reader.point}"']
    for point, kind in gateway.points:
        lines += ["[[point]]", f'id = "{point}"', f'kind = "{kind}"']
    return "\n".join(lines) + "\n"


class HubProcess:
    """The hub daemon; can be killed without warning and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.address = f"http://{_LOOPBACK}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon; before its first start the demo's people are let in, which a school does by hand."""
        gateway = [sys.executable, "-m", "gateway"]
        config = ["--config", str(self._folder / "hub.toml")]
        if not (self._folder / "hub" / "hub.db").exists():
            let_in = [*gateway, "mis", "sync", *config, "--site", SITE, "--source", "mis", "--first"]
            with (self._folder / "hub.log").open("ab") as log:
                subprocess.run(let_in, stdout=log, stderr=log, env=_environment(), check=False)
        command = [*gateway, "hub", *config]
        with (self._folder / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=_environment(),
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # runs one system call
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def ended(self) -> str | None:
        """Return the last line of its log when it ended by itself."""
        return _last_words(self._process, self._folder / "hub.log")


class GatewayProcess:
    """One gateway; `answers` gets what it says of each tap."""

    def __init__(self, folder: Path, plan: DemoGateway, port: int) -> None:
        self.plan = plan
        self.address = f"http://{_LOOPBACK}:{port}"
        self.answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.figures: dict[str, list[float]] = {}
        self.last_view: dict[str, Any] | None = None
        self._log = folder / f"{plan.id}.log"
        command = [sys.executable, "-m", "gateway.commands.demo_gateway", str(folder / f"{plan.id}.toml")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment()
            )
        self._listener = threading.Thread(target=self._listen, name=f"listen {plan.id}", daemon=True)
        self._listener.start()

    def tap(self, wish: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Let it finish its taps, ask for its figures and stop it."""
        if self._process.poll() is None:
            self.view()
            try:
                self.tap({"end": True})
                self._process.wait(_STOP_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._listener.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def ended(self) -> str | None:
        """Return the last line of its log when it ended by itself."""
        return _last_words(self._process, self._log)

    def view(self) -> dict[str, Any] | None:
        """Return what its status page shows, None while it does not answer."""
        view = fetch(f"{self.address}/v1/status")
        self.last_view = view or self.last_view
        return view

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "figures" in answer:
                self.figures = answer["figures"]
            else:
                self.answers.put(answer)


def fetch(address: str) -> dict[str, Any] | None:
    """Get one JSON object from a page of the demo, None while it does not answer."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError, urllib.error.URLError):
        return None


@dataclass(frozen=True, slots=True)
class HubRecord:
    """What the hub's database holds of the demo's taps.

    Attributes:
        taps: how often each (reader, card key or None) was counted.
        commit_ms: from tap to commit, of the taps that came live.
    """

    taps: Counter[tuple[str, str | None]]
    commit_ms: list[float]
    people: int

    @property
    def count(self) -> int:
        return sum(self.taps.values())


def read_hub(folder: Path) -> HubRecord:
    """Read the hub's own database, past all its caches; an empty record while there is none."""
    path = folder / "hub" / "hub.db"
    if not path.exists():
        return HubRecord(Counter(), [], 0)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        rows = connection.execute(
            "SELECT reader, card_key, committed_ms - at_ms, historical FROM event WHERE kind = 'tap'"
        ).fetchall()
        people = connection.execute("SELECT count(*) FROM person WHERE state = 'active'").fetchone()[0]
    except sqlite3.OperationalError:
        return HubRecord(Counter(), [], 0)
    finally:
        connection.close()
    taps = Counter((reader, key) for reader, key, _, _ in rows)
    return HubRecord(taps, [float(delay) for _, _, delay, historical in rows if not historical], people)


def wait_until_ready(hub: HubProcess, gateways: list[GatewayProcess]) -> None:
    """Wait until every gateway has a roster and all its readers answer.

    Raises:
        FatalError: a process ended, or it took longer than START_SECONDS.
    """
    deadline = time.monotonic() + START_SECONDS
    waiting = list(gateways)
    while waiting:
        for ended in (hub.ended, *(gateway.ended for gateway in gateways)):
            if (words := ended()) is not None:
                raise FatalError(f"The demo cannot start, a daemon ended: {words}")
        if time.monotonic() > deadline:
            names = ", ".join(gateway.plan.id for gateway in waiting)
            raise FatalError(f"The demo cannot start: after {START_SECONDS:.0f} s there is no roster on {names}.")
        waiting = [gateway for gateway in waiting if not _is_ready(gateway.view())]
        time.sleep(0.1)


def _is_ready(view: dict[str, Any] | None) -> bool:
    return (
        view is not None
        and view["roster_version"] is not None
        and view["roster_cards"] > 0
        and all(reader["state"] == "ready" for reader in view["readers"])
    )


def _end_with_parent() -> None:
    """Ask the kernel to end this process with the demo, also when that is killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _last_words(process: subprocess.Popen[Any] | None, log: Path) -> str | None:
    if process is None or process.poll() is None:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


def _environment() -> dict[str, str]:
    # The daemons run the very code that this process runs, installed or in a checkout.
    here = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))}
