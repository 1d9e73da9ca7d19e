"""The agent over a real connection that breaks, and what stands on the wire."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.agent import work
from gateway.agent.hub import HubUnreachable
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from gateway.webkit.server import WebServer
from tests.hub.agent_school import ROWS, School
from tests.hub.samples import wait_until


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    school = School(tmp_path)
    yield school
    school.stop()


class Line:
    """A cable between agent and hub; it lets so many bytes to the hub through, then is cut, or holds the rest back."""

    def __init__(self, address: str, most_bytes: int | None, *, holds: bool = False) -> None:
        parts = urlsplit(address)
        self._target = (parts.hostname or "", parts.port or 0)
        self._left, self._holds = most_bytes, holds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.recorded = bytearray()
        self.is_used_up = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, target, is_up in ((near, far, True), (far, near, False)):
                    self._threads.append(threading.Thread(target=self._carry, args=(source, target, is_up)))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if is_up and self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                if is_up:
                    self.recorded += data
                target.sendall(data)
                if is_up and self._left == 0:
                    self.is_used_up.set()
                    if self._holds:
                        return
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in self._open:
            end.close()


def sent(school: School) -> list[bytes]:
    return (school.folder / "agent-state" / work.READ_FILE).read_bytes().splitlines()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most_bytes=st.integers(0, 14_000))
def test_a_line_that_is_cut_after_any_byte_loses_and_doubles_nothing(school: School, most_bytes: int) -> None:
    address = school.server.address
    # Each example is a read of its own.
    school.export(*[(f"{number:03}", f"First{most_bytes}", "Last", "") for number in range(40)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_PIECE_BYTES", 500)
        line = Line(address, most_bytes)
        school.configure(hub=line.address)
        try:
            school.agent().round()
        except HubUnreachable:
            assert line.is_used_up.is_set() or most_bytes == 0
        finally:
            line.close()
        school.configure(hub=address)
        assert school.agent().round().lines == 42
    assert school.lines() == sent(school)


def test_an_agent_that_is_killed_in_the_middle_goes_on_at_the_hubs_line(school: School) -> None:
    school.export(*[(f"{number:05}", "First", f"Last {number}", "") for number in range(3000)])
    address = school.server.address
    words = [sys.executable, "-m", "gateway", "agent", "run", "--once", "--config", str(school.folder / "agent.toml")]
    line = Line(address, 200_000, holds=True)
    school.configure(hub=line.address)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(line.is_used_up.is_set, "nothing was sent", 60)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        line.close()
    arrived = len(school.lines())
    assert 0 < arrived < 3000
    school.configure(hub=address)
    done = school.agent().round()
    assert (done.lines, done.sent) == (3002, 3002 - arrived), "what had arrived is not sent again"
    assert school.lines() == sent(school)
    report = school.sync(first=True)
    assert (report.feed.complete, len(school.people())) == (True, 3000)


def test_no_card_number_and_no_site_key_stand_on_the_wire_in_any_form(school: School) -> None:
    app = build_office(school.store, Daemon(list, lambda: True, dict), Broadcaster(), Access(base=school.folder)).app
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    # Without TLS, which only a hub on the same machine may do, the wire can be read.
    line = Line(server.address, None)
    try:
        school.configure(hub=line.address)
        school.agent().round()
        (school.folder / "people.csv").write_text(
            "Student ID,First,Last,Card\n1,Ann,Smith,not a number 04A1B2C3D4E5F6\n"
        )
        school.agent().round()
    finally:
        for hub in school.hubs:
            hub.close()
        line.close()
        server.stop()
    wire = bytes(line.recorded).lower()
    assert b"smith" in wire
    for _, _, _, card in ROWS:
        raw = bytes.fromhex(card)
        numbers = (raw, raw[::-1], raw[:4], raw[:4][::-1])
        forms = [form for one in numbers for form in (one, one.hex().encode(), one.hex(":").encode())]
        forms += [str(int.from_bytes(one, "big")).encode() for one in numbers]
        assert [form for form in forms if form in wire] == []
    assert bytes(range(32)).hex().encode() not in wire
