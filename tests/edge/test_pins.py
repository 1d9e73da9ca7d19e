"""A gateway.toml in which two things hang on one pin, or antennas cannot take turns, is refused with both named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config import load_gateway
from gateway.edge.options import reader_options
from gateway.errors import ConfigError
from gateway.readers.base import DRIVERS
from gateway.transports.header import pins_of

BASE = """
[gateway]
id = "gw"
site = "st"
site_key_file = "site.key"
[[point]]
id = "lane"
kind = "lane"
"""
LANE_1 = """
[[reader]]
id = "lane-1"
driver = "rc522"
port = "/dev/spidev0.0"
point = "lane"
"""
LANE_2 = LANE_1.replace("lane-1", "lane-2").replace("0.0", "0.1")


def check(tmp_path: Path, *sections: str) -> tuple[list[str], list[str]]:
    """Return problems and warnings without file and line."""
    path = tmp_path / "gateway.toml"
    path.write_text(BASE + "".join(sections), encoding="utf-8")
    settings = load_gateway(path, tuple(DRIVERS))
    reader_options(settings)
    problems: list[str] = []
    try:
        settings.file.finish()
    except ConfigError as error:
        problems = error.problems
    return [text.split(": ", 1)[1] for text in problems], [text.split(": ", 1)[1] for text in settings.file.warnings]


def test_pins_of_their_own_are_fine(tmp_path: Path) -> None:
    pins = ("reset_gpio = 25\nirq_gpio = 24\n", "reset_gpio = 5\nirq_gpio = 6\n")
    assert check(tmp_path, LANE_1, pins[0], LANE_2, pins[1]) == ([], [])


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            (LANE_1, "reset_gpio = 24\nirq_gpio = 24\n"),
            "reader.0.irq_gpio: GPIO 24 is already reset_gpio of reader 'lane-1'",
        ),
        (
            (LANE_1, "irq_gpio = 24\n", LANE_2, "irq_gpio = 24\n"),
            "reader.1.irq_gpio: GPIO 24 is already irq_gpio of reader 'lane-1'",
        ),
        ((LANE_1, "irq_gpio = 9\n"), "reader.0.irq_gpio: GPIO 9 is already SPI0 MISO of reader 'lane-1'"),
        (
            (LANE_1, "reset_gpio = 7\n", LANE_2),
            "reader.0.reset_gpio: GPIO 7 is already SPI0 chip select 1 of reader 'lane-2'",
        ),
        (
            (LANE_1.replace("0.0", "1.0"), "reset_gpio = 20\n"),
            "reader.0.reset_gpio: GPIO 20 is already SPI1 MOSI of reader 'lane-1'",
        ),
        (
            (
                LANE_1,
                'irq_gpio = 24\n[[point]]\nid = "d"\nkind = "door"\nstrike_gpio = 24\n',
                'lock = "fail-safe"\negress = "breakglass"\n',
            ),
            "reader.0.irq_gpio: GPIO 24 is already strike_gpio of point 'd'",
        ),
        (
            (LANE_1, '[[point]]\nid = "d"\nkind = "door"\nrex_gpio = 11\n'),
            "point.1.rex_gpio: GPIO 11 is already SPI0 SCLK of reader 'lane-1'",
        ),
        (
            (
                LANE_1,
                'reset_gpio = 15\n[[reader]]\nid = "in"\ndriver = "serial-line"\nport = "/dev/serial0"\n',
                'point = "lane"\n',
            ),
            "reader.0.reset_gpio: GPIO 15 is already UART RXD of reader 'in'",
        ),
        # The library's driver pulls its reset pin at every start, by default 25.
        (
            (LANE_1, "reset_gpio = 25\n", LANE_2.replace("rc522", "mfrc522")),
            "reader.1.reset_gpio: GPIO 25 is already reset_gpio of reader 'lane-1'",
        ),
    ],
)
def test_a_pin_wanted_twice_is_refused_and_both_are_named(
    tmp_path: Path, sections: tuple[str, ...], problem: str
) -> None:
    assert check(tmp_path, *sections) == ([problem + "; give one of the two another pin, and its wire"], [])


def test_two_points_on_one_pin_are_told_once(tmp_path: Path) -> None:
    door = '[[point]]\nid = "d"\nkind = "door"\nrex_gpio = 5\ncontact_gpio = 5\n'
    problems, _ = check(tmp_path, LANE_1, door)
    assert len(problems) == 1


def test_one_reset_wire_for_two_readers_is_a_warning_and_the_file_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems, [warning] = check(tmp_path, LANE_1, "reset_gpio = 25\n", LANE_2, "reset_gpio = 25\n")
    assert problems == []
    assert warning.startswith("reader.1.reset_gpio: GPIO 25 is also reset_gpio of reader 'lane-1'")
    (tmp_path / "site.key").write_text("11" * 32)
    assert main(["check-config", str(tmp_path / "gateway.toml")]) == 1
    assert "warning: " in capsys.readouterr().out


@pytest.mark.parametrize("pin", [-1, 28])
def test_a_pin_that_no_header_has_is_refused(tmp_path: Path, pin: int) -> None:
    problems, _ = check(tmp_path, LANE_1, f"irq_gpio = {pin}\n")
    assert problems == ["reader.0.irq_gpio: must be a BCM number from 0 to 27"]


def test_a_group_of_readers_of_one_bus_is_fine(tmp_path: Path) -> None:
    group = 'antenna_group = "gate"\n'
    assert check(tmp_path, LANE_1, group, LANE_2, group) == ([], [])


def test_a_group_across_buses_or_of_one_reader_is_refused(tmp_path: Path) -> None:
    group = 'antenna_group = "gate"\n'
    [problem], _ = check(tmp_path, LANE_1, group, LANE_2.replace("0.1", "1.0"), group)
    assert problem.startswith("reader.1.antenna_group: group 'gate' has reader 'lane-1' on spi0")
    [problem], _ = check(tmp_path, LANE_1, group, LANE_2)
    assert problem.startswith("reader.0.antenna_group: no other reader is in group 'gate'")


def test_ports_beside_the_header_hold_no_pins() -> None:
    assert pins_of("/dev/ttyUSB0") == pins_of("/dev/serial/by-id/usb-x") == {}
    assert set(pins_of("/dev/spidev0.2")) == {9, 10, 11}
