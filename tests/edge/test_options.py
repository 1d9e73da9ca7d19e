"""Readers that share a port: what a gateway.toml may say, and what is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edge.test_pins import check

READER = """
[[reader]]
id = "{name}"
driver = "{driver}"
port = "{port}"
point = "lane"
{more}
"""
LINE = "/dev/serial/by-id/usb-rs485"


def readers(driver: str, port: str, *more: str) -> tuple[str, ...]:
    return tuple(
        READER.format(name=f"r{number}", driver=driver, port=port, more=text) for number, text in enumerate(more)
    )


def test_entry_and_exit_reader_of_one_line_are_told_apart_by_their_addresses(tmp_path: Path) -> None:
    assert check(tmp_path, *readers("osdp", LINE, "address = 1", "address = 2")) == ([], [])


def test_wiegand_readers_of_one_controller_have_pins_of_their_own(tmp_path: Path) -> None:
    pins = ("d0_gpio = 5\nd1_gpio = 6", "d0_gpio = 16\nd1_gpio = 26")
    assert check(tmp_path, *readers("wiegand", "gpiochip:header", *pins)) == ([], [])


@pytest.mark.parametrize(
    ("driver", "port", "more", "problem"),
    [
        ("osdp", LINE, ("address = 1", "address = 1"), "reader.1.address: 1 is the address of reader 'r0'"),
        ("osdp", LINE, ("", "address = 2\nbaud = 115200"), "reader.1.baud: reader 'r0' on the same line has 9600"),
        ("serial-line", LINE, ("", ""), "reader.1.port: is already used by reader 'r0'; only osdp readers"),
        (
            "wiegand",
            "gpiochip:header",
            ("d0_gpio = 5\nd1_gpio = 6", "d0_gpio = 6\nd1_gpio = 7"),
            "reader.1.d0_gpio: GPIO 6 is already d1_gpio of reader 'r0'",
        ),
        ("wiegand", "gpiochip:header", ("d0_gpio = 5",), "reader.0.d1_gpio: must be the number of a pin"),
        ("wedge", "/dev/input/event3", ('layout = "xx"',), "reader.0.layout: must be one of us, uk"),
    ],
)
def test_readers_that_could_not_be_told_apart_are_refused(
    tmp_path: Path, driver: str, port: str, more: tuple[str, ...], problem: str
) -> None:
    problems, _ = check(tmp_path, *readers(driver, port, *more))
    assert any(problem in text for text in problems), problems
