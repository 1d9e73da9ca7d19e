from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from gateway.service import Beats, run_service, sd_notify


def test_a_loop_that_misses_its_deadline_is_named_until_it_beats_again() -> None:
    now = [0.0]
    beats = Beats(lambda: now[0])
    beat = beats.register("bus spi0", 5)
    beats.register("writer", 60)
    now[0] = 5.1
    assert beats.overdue() == ["bus spi0"]
    beat()
    assert beats.overdue() == []
    now[0] = 100
    beats.forget("writer")
    assert beats.overdue() == ["bus spi0"]


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")


def test_the_watchdog_is_fed_only_while_every_loop_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    now = [0.0]
    beats = Beats(lambda: now[0])
    beats.register("bus spi0", 5)
    heard: list[str] = []

    def listen() -> None:
        while not any("STOPPING" in text for text in heard):
            heard.append(manager.recv(4096).decode())
            if heard[-1].startswith("STATUS=not responding"):
                os.kill(os.getpid(), signal.SIGTERM)

    listener = threading.Thread(target=listen)
    listener.start()
    stopped = []

    def status() -> str:
        # From now on nothing has beaten for longer than it may.
        now[0] = 6.0
        return "all good"

    run_service(beats, lambda: stopped.append(True), status)
    listener.join(10)
    manager.close()
    assert heard[0] == "READY=1"
    assert heard[1] == "WATCHDOG=1\nSTATUS=all good"
    assert heard[2] == "STATUS=not responding: bus spi0"
    assert heard[-1] == "STOPPING=1"
    assert stopped == [True]
