"""A virtual Raspberry Pi for unmodified processes: SPI with RC522 chips at ioctl level, and GPIO registers.

The chips run in a process of their own (virtual_pi_chips.py); a preloaded library (virtual_pi.c, built with gcc on
first use) carries ioctls on /dev/spidevB.D to them and lends a file for /dev/gpiomem, so that the real daemon, the real
spidev extension and the real RPi.GPIO run as they are. Needs gcc and nothing else; no root, no kernel module.

    with VirtualPi() as pi:
        daemon = pi.spawn([sys.executable, "-m", "gateway", "run", "--config", "gateway.toml"])
        entered_ns = pi.enter("spidev0.0", "classic_1k", "DEADBEEF")
        pi.gpio.wait_for(17, high=True, timeout_seconds=1)
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import socket
import subprocess  # the whole point is to start other programs
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from gateway.errors import FatalError

_SOURCE = Path(__file__).with_name("virtual_pi.c")
_START_SECONDS = 20.0
# Revision of a Raspberry Pi 4 Model B 4 GB; RPi.GPIO reads nothing else.
_CPUINFO = "Hardware\t: BCM2711\nRevision\t: c03111\nSerial\t\t: 0\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n"

# A call and a transfer on a Pi cost about this much processor time.
PI_IOCTL_US, PI_TRANSFER_US = 35, 12

_GPSET0, _GPCLR0, _GPLEV0 = 0x1C, 0x28, 0x34
_GPIO_BYTES = 4096


def missing() -> str:
    """Return one phrase saying why this machine cannot run a virtual Pi, empty when it can."""
    if sys.platform != "linux":
        return "needs Linux"
    if shutil.which("gcc") is None:
        return "needs gcc"
    return ""


class Gpio:
    """The GPIO registers of a BCM2711 in a file, seen from outside the process that drives them.

    RPi.GPIO stores masks to GPSET0 and GPCLR0; `look` takes them away again and keeps GPLEV0, so that the process reads
    its own outputs back. Two stores to one register between two looks show as the second only.
    """

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_GPIO_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _GPIO_BYTES)
        self._words = memoryview(self._map).cast("I")

    def look(self) -> int:
        """Take up what was stored since the last look; returns the levels of pins 0..31 as bits."""
        words = self._words
        set_mask, words[_GPSET0 // 4] = words[_GPSET0 // 4], 0
        clear_mask, words[_GPCLR0 // 4] = words[_GPCLR0 // 4], 0
        words[_GPLEV0 // 4] = (words[_GPLEV0 // 4] | set_mask) & ~clear_mask & 0xFFFFFFFF
        return words[_GPLEV0 // 4]

    def level(self, pin: int) -> bool:
        return bool(self.look() >> pin & 1)

    def drive(self, pin: int, *, high: bool) -> None:
        """Set an input pin's level from outside."""
        levels = self.look()
        self._words[_GPLEV0 // 4] = levels | 1 << pin if high else levels & ~(1 << pin)

    def is_output(self, pin: int) -> bool:
        """Return whether the process has made this pin an output (GPFSEL, three bits a pin)."""
        return self._words[pin // 10] >> pin % 10 * 3 & 0b111 == 0b001

    def wait_for(self, pin: int, *, high: bool, timeout_seconds: float) -> int:
        """Wait for a level; returns CLOCK_MONOTONIC nanoseconds when it was seen, within about 0.1 ms.

        Raises:
            TimeoutError: the pin kept its level.
        """
        end = time.monotonic() + timeout_seconds
        while self.level(pin) != high:
            if time.monotonic() > end:
                raise TimeoutError(f"GPIO {pin} did not go {'high' if high else 'low'} in {timeout_seconds} s")
            time.sleep(20e-6)
        return time.monotonic_ns()

    def close(self) -> None:
        self._words.release()
        self._map.close()


class VirtualPi:
    """The machine: start it, start programs on it, hold cards to its readers.

    Args:
        devices: spidev names without `/dev/`, an RC522 on each.
        ioctl_us: processor time of one system call, 0 for what this machine needs itself.
        board: a Pi 5 has no /dev/gpiomem, so that RPi.GPIO does not work there; its pins are the kernel's lines.
    """

    def __init__(
        self,
        devices: Sequence[str] = ("spidev0.0",),
        ioctl_us: int = PI_IOCTL_US,
        transfer_us: int = PI_TRANSFER_US,
        board: Literal["pi4", "pi5"] = "pi4",
    ) -> None:
        self._devices = tuple(devices)
        self._board = board
        self._costs = {"VIRTUAL_PI_IOCTL_US": str(ioctl_us), "VIRTUAL_PI_TRANSFER_US": str(transfer_us)}
        self._children: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        # Socket names must stay below 108 bytes, so this is not below a long test folder.
        self._folder = tempfile.TemporaryDirectory(prefix="vpi-")
        self.path = Path(self._folder.name)
        try:
            self._build()
            (self.path / "cpuinfo").write_text(_CPUINFO, encoding="ascii")
            self.gpio = Gpio(self.path / "gpiomem")
            self._start_chips()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def _build(self) -> None:
        command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(self.path / "virtual_pi.so"), str(_SOURCE), "-ldl"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
        if built.returncode:
            raise FatalError(f"The virtual Pi could not be built: {built.stderr.strip()}")

    def _start_chips(self) -> None:
        self._chips = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "gateway.simulator.virtual_pi_chips", str(self.path), *self._devices],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(item for item in sys.path if item)},
        )
        if self._chips.stdout is None or self._chips.stdout.readline() != "ready\n":
            self._chips.kill()
            raise FatalError("The chips of the virtual Pi did not start; see the lines above.")
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.settimeout(_START_SECONDS)
        self._control.connect(str(self.path / "control.sock"))
        self._lines = self._control.makefile("rw", encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """Return the variables that put a process on this Pi."""
        preload = [str(self.path / "virtual_pi.so"), *os.environ.get("LD_PRELOAD", "").split()]
        return {
            "LD_PRELOAD": " ".join(preload),
            "VIRTUAL_PI_DIR": str(self.path),
            "VIRTUAL_PI_BOARD": self._board,
            **self._costs,
        }

    def spawn(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[str]:
        """Start a program on this Pi; it is ended with the Pi."""
        path = os.pathsep.join(item for item in sys.path if item)
        child: subprocess.Popen[str] = subprocess.Popen(  # noqa: S603  # the caller's own program
            list(command),
            env={**os.environ, "PYTHONPATH": path, **self.environment(), **(env or {})},
            text=True,
            **popen,
        )
        self._children.append(child)
        return child

    def order(self, device: str, do: str, **details: Any) -> dict[str, Any]:
        """Send one command to the chips; see virtual_pi_chips.perform."""
        self._lines.write(json.dumps({"device": device, "do": do, **details}) + "\n")
        self._lines.flush()
        answer: dict[str, Any] = json.loads(self._lines.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def enter(self, device: str, kind: str, uid: str = "", *, power_up_us: int = 0) -> int:
        """Bring a card to a reader; returns CLOCK_MONOTONIC nanoseconds of that moment.

        Args:
            kind: a maker of iso14443_cards or issued_cards.
        """
        answer = self.order(device, "enter", kind=kind, uid=uid, power_up_us=power_up_us)
        return int(answer["ns"])

    def leave(self, device: str, uid: str = "") -> None:
        """Take one card away, or all."""
        self.order(device, "leave", uid=uid)

    def stats(self, device: str) -> dict[str, int]:
        """Return `calls`, `transfers` and the last `speed_hz` of a device."""
        return self.order(device, "stats")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    pipe.close()
        self._lines.close()
        self._control.close()
        self._chips.wait(10)
        if self._chips.stdout:
            self._chips.stdout.close()
        self.gpio.close()
        self._folder.cleanup()
