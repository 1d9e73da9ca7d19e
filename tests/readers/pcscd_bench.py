"""The real pcscd with a virtual reader (vpcd of the vsmartcard project), and a card that we play.

pcscd runs in namespaces of its own, so that neither its socket nor vpcd's port is seen by, or meets, anything else on
the machine; only a folder of the test is shared. The card is a thread that joins that network namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.readers.base import ReaderEvent
from gateway.readers.pcsc import Options, PcscReader, make
from gateway.transports.real import RealTransports

_PORT = 0x8C7B
_CLONE_NEWNET = 0x40000000
# PC/SC part 3, section 3.1.3.2.3.1: the ATR of a contactless storage card, here a MIFARE Classic 1K.
_ATR = bytes.fromhex("3B8F8001804F0CA000000306030001000000006A")
_CONTROL_ATR = 4
NAME = "Tapgate Test PICC"


def _library() -> Path | None:
    return next(iter(Path("/usr/lib").glob("**/libifdvpcd.so")), None)


def missing() -> str:
    """Return why this cannot run here, empty when it can."""
    if not shutil.which("pcscd", path=f"{os.environ['PATH']}:/usr/sbin"):
        return "needs pcscd"
    if _library() is None:
        return "needs vsmartcard-vpcd"
    if os.geteuid():
        return "needs root, for namespaces of its own"
    probe = ["unshare", "--mount", "--net", "ip", "link", "set", "lo", "up"]
    return "" if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else "needs namespaces"


class VirtualCard:
    """A card on the reader, at the far end of vpcd's TCP line: two bytes of length, then a control byte or an APDU.

    Args:
        answer: returns the answer to an APDU; None pulls the card instead, and may wait as long as it likes.
    """

    def __init__(self, namespace: Path, answer: Callable[[bytes], bytes | None]) -> None:
        self._namespace, self._answer = namespace, answer
        self.asked: list[bytes] = []
        self._socket: socket.socket | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)
        assert self._socket is not None, "the card does not reach the virtual reader"

    def _run(self) -> None:
        with self._namespace.open("rb") as space:
            ctypes.CDLL(None).setns(space.fileno(), _CLONE_NEWNET)
        with contextlib.suppress(OSError):
            self._socket = socket.create_connection(("127.0.0.1", _PORT), timeout=5)
            self._socket.settimeout(None)
        self._ready.set()
        with contextlib.suppress(OSError, ValueError):
            while True:
                (length,) = struct.unpack(">H", self._exactly(2))
                message = self._exactly(length)
                reply: bytes | None = None
                if length > 1:
                    self.asked.append(message)
                    reply = self._answer(message)
                    if reply is None:
                        break
                elif message[0] == _CONTROL_ATR:
                    reply = _ATR
                if reply is not None:
                    self._socket.sendall(struct.pack(">H", len(reply)) + reply)
        self.pull()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise OSError
            data += part
        return data

    def pull(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def contactless(uid: bytes) -> Callable[[bytes], bytes]:
    return lambda apdu: uid + b"\x90\x00" if apdu == bytes.fromhex("FFCA000000") else b"\x6d\x00"


class PcscdBench:
    """A reader on the real pcscd.

    Attributes:
        slow_polls: how long each poll over 100 ms has taken, in seconds.
    """

    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, folder: Path) -> None:
        self._run, self._config = folder / "run", folder / "config"
        self._run.mkdir(exist_ok=True)
        self._config.mkdir(exist_ok=True)
        (self._config / "vpcd").write_text(
            f'FRIENDLYNAME "{NAME}"\nDEVICENAME /dev/null:{_PORT:#x}\nLIBPATH {_library()}\nCHANNELID {_PORT:#x}\n'
        )
        self.reader: PcscReader = make("desk", NAME, Options(), RealTransports())
        self.card: VirtualCard | None = None
        self.slow_polls: list[float] = []
        self.polls = 0
        self._daemon: subprocess.Popen[bytes] | None = None
        self.revive()

    def revive(self) -> None:
        """Start pcscd and wait until it listens."""
        line = self._run / "pcscd.comm"
        line.unlink(missing_ok=True)
        script = (
            'ip link set lo up && mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind "$1" /run/pcscd'
            ' && shift && exec pcscd --foreground "$@"'
        )
        options = ["--config", str(self._config)]
        path = f"{os.environ['PATH']}:/usr/sbin"
        helped = subprocess.run(["pcscd", "--help"], capture_output=True, text=True, check=False, env={"PATH": path})
        if "--disable-polkit" in helped.stdout:
            options.append("--disable-polkit")
        self._daemon = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", script, "sh", str(self._run), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": path},
        )
        end = time.monotonic() + 10
        while not line.exists():
            assert self._daemon.poll() is None, "pcscd ended at once"
            assert time.monotonic() < end, "pcscd does not start"
            time.sleep(0.01)

    def kill(self) -> None:
        """End pcscd, and its reader with it."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait(5)
            self._daemon = None

    def enter(self, uid: bytes) -> None:
        self.hold(contactless(uid))

    def hold(self, answer: Callable[[bytes], bytes | None]) -> VirtualCard:
        """Lay a card on the reader that answers so."""
        assert self._daemon is not None
        self.card = VirtualCard(Path(f"/proc/{self._daemon.pid}/ns/net"), answer)
        return self.card

    def leave(self) -> None:
        if self.card is not None:
            self.card.pull()
            self.card = None

    def poll(self) -> list[ReaderEvent]:
        begin = time.monotonic()
        try:
            return self.reader.poll()
        finally:
            self.polls += 1
            if (took := time.monotonic() - begin) > 0.1:
                self.slow_polls.append(took)

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        """Poll for a while; pcscd looks at this reader every 400 ms only, which is added."""
        events: list[ReaderEvent] = []
        end = time.monotonic() + milliseconds / 1000 + 0.9
        while time.monotonic() < end:
            events += self.poll()
        return events

    def until(self, kind: type, seconds: float = 10.0) -> ReaderEvent:
        """Poll until an event of this kind comes; others before it fail."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for event in self.poll():
                assert isinstance(event, kind), event
                return event
        raise AssertionError(f"no {kind.__name__}")

    def close(self) -> None:
        self.leave()
        self.reader.close()
        self.kill()


@pytest.fixture(scope="session")
def pcscd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The client library looks for its socket once a process, so all tests of a process share one place.
    folder = tmp_path_factory.mktemp("pcscd")
    os.environ["PCSCLITE_CSOCK_NAME"] = str(folder / "run" / "pcscd.comm")
    return folder
