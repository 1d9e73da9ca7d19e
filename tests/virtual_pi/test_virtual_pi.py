"""Unmodified programs on the virtual Pi: kernel ABI, the real spidev, the real RPi.GPIO, the real drivers."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.errors import ReaderOffline
from gateway.simulator.virtual_pi import VirtualPi
from gateway.transports.irq_line import GpioIrqLine

OWNER = Path(__file__).with_name("owner.py")
FOUR, OTHER, SEVEN = "deadbeef", "529d06e3", "04a1b2c3d4e5f6"


class Owner:
    """A reader's owner in its own process on the Pi."""

    def __init__(self, pi: VirtualPi, driver: str, port: str = "/dev/spidev0.0", **options: object) -> None:
        command = [sys.executable, "-W", "ignore", str(OWNER), driver, port, json.dumps(options)]
        self.child = pi.spawn(command, stdout=subprocess.PIPE)
        self._said: queue.SimpleQueue[dict] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.child.stdout:
            self._said.put(json.loads(line))

    def hear(self, kind: str, seconds: float = 20.0) -> dict:
        """Wait for the next line, which must be of this kind."""
        said = self._said.get(timeout=seconds)
        assert said["kind"] == kind, said
        return said

    def hear_past(self, passed: str, kind: str) -> dict:
        while (said := self._said.get(timeout=20))["kind"] == passed:
            pass
        assert said["kind"] == kind, said
        return said

    def silent_for(self, seconds: float) -> bool:
        try:
            self._said.get(timeout=seconds)
        except queue.Empty:
            return True
        return False


def run(pi: VirtualPi, program: str) -> list[str]:
    child = pi.spawn([sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    return out.split("\n")[:-1]


def test_the_real_spidev_extension_reads_the_version_register(pi: VirtualPi) -> None:
    program = "import spidev; s = spidev.SpiDev(); s.open(0, 1); s.max_speed_hz = 2000000; print(s.xfer2([0xEE, 0]))"
    assert run(pi, program) == ["[0, 146]"]
    assert pi.stats("spidev0.1") == {"calls": 1, "transfers": 1, "speed_hz": 2_000_000}


def test_a_device_that_is_not_there_is_no_such_file(pi: VirtualPi) -> None:
    program = "import os\ntry: os.open('/dev/spidev7.0', os.O_RDWR)\nexcept OSError as e: print(e.errno)"
    assert run(pi, program) == ["2"]


def test_the_real_rpi_gpio_drives_pins_that_are_seen_from_outside(pi: VirtualPi) -> None:
    program = (
        "import sys; from RPi import GPIO as G; G.setmode(G.BCM); G.setup(17, G.OUT); G.setup(27, G.IN)\n"
        "G.output(17, 1); sys.stdin.readline(); print(G.input(17), G.input(27), G.RPI_INFO['TYPE']); G.output(17, 0)\n"
        "sys.stdin.readline()"
    )
    child = pi.spawn([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pi.gpio.wait_for(17, high=True, timeout_seconds=20)
    assert pi.gpio.is_output(17)
    assert not pi.gpio.is_output(27)
    pi.gpio.drive(27, high=True)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "1 1 Pi 4 Model B\n"
    pi.gpio.wait_for(17, high=False, timeout_seconds=20)


@pytest.mark.parametrize(
    ("kind", "uid"),
    [("classic_1k", FOUR), ("classic_4k", OTHER), ("classic_1k", SEVEN), ("ntag", SEVEN), ("desfire", SEVEN)],
)
def test_our_driver_reads_every_kind_of_card_through_the_kernel_interface(pi: VirtualPi, kind: str, uid: str) -> None:
    owner = Owner(pi, "rc522")
    owner.hear("state")
    entered_ns = pi.enter("spidev0.0", kind, uid)
    read = owner.hear("CardRead")
    assert read["uid"] == uid
    assert read["ns"] > entered_ns
    pi.leave("spidev0.0")
    owner.hear("CardGone")


def test_one_call_of_seven_transfers_is_an_empty_look(pi: VirtualPi) -> None:
    owner = Owner(pi, "rc522", poll_ms=20, idle_poll_ms=20)
    owner.hear("state")
    before = pi.stats("spidev0.0")
    assert owner.silent_for(0.5)
    after = pi.stats("spidev0.0")
    calls, transfers = (after[key] - before[key] for key in ("calls", "transfers"))
    assert calls >= 10
    # The first look empties the FIFO with one transfer more; a health check is one call of one transfer.
    assert 6.2 <= transfers / calls <= 7.1


def test_a_resting_card_is_one_presentation_and_a_newcomer_beside_it_another(pi: VirtualPi) -> None:
    owner = Owner(pi, "rc522")
    owner.hear("state")
    pi.enter("spidev0.0", "classic_1k", FOUR)
    assert owner.hear("CardRead")["uid"] == FOUR
    assert owner.silent_for(1.0)
    pi.enter("spidev0.0", "ntag", SEVEN)
    assert owner.hear("CardRead")["uid"] == SEVEN
    assert owner.silent_for(0.5)


def test_a_pulled_chip_is_offline_and_reads_again_when_it_is_back(pi: VirtualPi) -> None:
    owner = Owner(pi, "rc522")
    owner.hear("state")
    pi.order("spidev0.0", "unplug")
    assert "/dev/spidev0.0" in owner.hear("offline")["detail"]
    pi.order("spidev0.0", "plug")
    owner.hear_past("offline", "state")
    pi.enter("spidev0.0", "classic_1k", OTHER)
    assert owner.hear("CardRead")["uid"] == OTHER


def test_a_brown_out_and_bus_errors_do_not_make_the_reader_mute(pi: VirtualPi) -> None:
    owner = Owner(pi, "rc522")
    owner.hear("state")
    pi.order("spidev0.0", "power_cycle")
    pi.enter("spidev0.0", "classic_1k", FOUR)
    assert owner.hear("CardRead")["uid"] == FOUR
    pi.order("spidev0.0", "fail", errno=5, count=2)
    owner.hear("offline")
    owner.hear_past("offline", "state")
    pi.enter("spidev0.0", "classic_1k", OTHER)
    assert owner.hear("CardRead")["uid"] == OTHER


def test_a_second_owner_of_the_same_reader_is_told_that_it_is_in_use(pi: VirtualPi) -> None:
    Owner(pi, "rc522").hear("state")
    assert "in use" in Owner(pi, "rc522").hear("offline")["detail"]


def test_two_readers_on_two_chip_selects_read_their_own_cards(pi: VirtualPi) -> None:
    first, second = Owner(pi, "rc522"), Owner(pi, "rc522", "/dev/spidev0.1")
    first.hear("state")
    second.hear("state")
    pi.enter("spidev0.0", "classic_1k", FOUR)
    pi.enter("spidev0.1", "classic_1k", OTHER)
    assert first.hear("CardRead")["uid"] == FOUR
    assert second.hear("CardRead")["uid"] == OTHER


FILE = {"credential": "desfire-file", "aid": "3042F5", "file": 2, "length": 10, "irq_gpio": 24}


def test_a_desfire_is_read_by_the_edges_of_the_interrupt_line(pi: VirtualPi) -> None:
    pi.order("spidev0.0", "wire_irq", gpio=24)
    owner = Owner(pi, "rc522", **FILE)
    assert "irq_gpio" not in owner.hear("state")["detail"]
    for uid in (FOUR, OTHER):
        pi.enter("spidev0.0", "file_card", uid)
        assert bytes.fromhex(owner.hear("CardRead")["uid"]).decode() == str(int(uid, 16))
        pi.leave("spidev0.0")
        owner.hear("CardGone")


def test_an_interrupt_line_that_leads_to_another_chip_is_found_at_the_start_and_done_without(pi: VirtualPi) -> None:
    pi.order("spidev0.1", "wire_irq", gpio=24)
    owner = Owner(pi, "rc522", **FILE)
    assert "no edge arrives" in owner.hear("state")["detail"]
    pi.enter("spidev0.0", "file_card", FOUR)
    assert bytes.fromhex(owner.hear("CardRead")["uid"]).decode() == str(int(FOUR, 16))


def test_a_line_of_the_header_gives_falling_edges_and_nothing_else(pi: VirtualPi) -> None:
    pi.order("spidev0.0", "wire_irq", gpio=24)
    program = (
        "import os, select\n"
        "from gateway.transports.irq_line import GpioIrqLine\n"
        "from gateway.transports.spi import SpiDevice, SpiMessage, Transfer\n"
        "line, wire = GpioIrqLine(24), SpiDevice('/dev/spidev0.0', 4_000_000)\n"
        "line.open(); wire.open()\n"
        "def send(*parts): wire.exchange(SpiMessage([Transfer(part) for part in parts]))\n"
        "print(line.wait(0.01))\n"
        # Enable the error interrupt, set its bit by hand, clear it, set it again: two edges.
        "send(b'\\x04\\x82', b'\\x08\\x82'); print(line.wait(1), line.wait(0.01))\n"
        "send(b'\\x08\\x02'); print(line.wait(0.01))\n"
        "send(b'\\x08\\x82'); line.drain(); print(line.wait(0.01))\n"
        "line.close(); line.close(); print(line.wait(0))\n"
    )
    assert run(pi, program) == ["False", "True False", "False", "False", "False"]


def test_a_machine_without_a_header_says_so() -> None:
    with pytest.raises(ReaderOffline, match="GPIO 24 cannot be monitored"):
        GpioIrqLine(24).open()


def test_the_real_mfrc522_library_reads_with_its_faults_fenced_in(pi: VirtualPi) -> None:
    owner = Owner(pi, "mfrc522")
    owner.hear("state")
    assert pi.gpio.level(25)
    assert not pi.gpio.is_output(15)
    pi.enter("spidev0.0", "classic_1k", FOUR)
    assert owner.hear("CardRead")["uid"] == FOUR
    assert owner.silent_for(1.0)
    pi.leave("spidev0.0")
    owner.hear("CardGone")
    pi.enter("spidev0.0", "ntag", SEVEN)
    assert owner.hear("CardRefused")["reason"] == "card_format"


def test_the_stock_library_without_the_fence_reports_a_check_byte_and_loses_every_second_look(pi: VirtualPi) -> None:
    program = (
        "from mfrc522 import MFRC522\n"
        "c = MFRC522(pin_mode=11, pin_rst=25)\n"
        "def look():\n"
        "    status, _ = c.MFRC522_Request(c.PICC_REQIDL)\n"
        "    return bytes(c.MFRC522_Anticoll()[1]).hex() if status == c.MI_OK else None\n"
        "print(*[look() for _ in range(4)])\n"
    )
    pi.enter("spidev0.0", "classic_1k", FOUR)
    assert run(pi, program) == ["deadbeef22 None deadbeef22 None"]
