from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main
from gateway.commands.wiring import BOARDS, make_plan, profiles_folder
from gateway.errors import ConfigError
from gateway.settings_file import SettingsFile

PROFILES = sorted(profiles_folder().glob("*.toml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_that_ships_fits_every_board_it_names(path: Path) -> None:
    boards = SettingsFile(path).root["boards"]
    assert boards
    for board in boards:
        assert make_plan(path, board).config_lines


def test_two_readers_on_spi0_need_one_line_and_the_watchdog() -> None:
    plan = make_plan(profiles_folder() / "two-rc522.toml", "pi4")
    assert plan.config_lines == ["dtparam=spi=on", "dtparam=watchdog=on"]
    assert 'port = "/dev/spidev0.1"' in plan.gateway_lines


def test_the_header_uart_is_freed_of_bluetooth_and_console_on_a_pi_4() -> None:
    plan = make_plan(profiles_folder() / "rc522-uart-door.toml", "pi4")
    assert {"enable_uart=1", "dtoverlay=disable-bt", "dtoverlay=i2c-rtc,ds3231"} <= set(plan.config_lines)
    assert "remove console=serial0,115200" in plan.cmdline


def test_a_third_reader_brings_spi1_with_as_many_selects_as_needed() -> None:
    assert "dtoverlay=spi1-1cs" in make_plan(profiles_folder() / "pi5-three-rc522.toml", "pi5").config_lines


def _problems(tmp_path: Path, text: str, board: str = "pi4") -> list[str]:
    path = tmp_path / "harness.toml"
    path.write_text(f'schema = 1\nname = "x"\nboards = {sorted(BOARDS)}\n' + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        make_plan(path, board)
    return [problem.replace(str(path), "f") for problem in caught.value.problems]


def test_a_pin_wanted_twice_names_both(tmp_path: Path) -> None:
    text = """
[[reader]]
id = "lane-1"
kind = "rc522"
reset_gpio = 25
[[reader]]
id = "lane-2"
kind = "rc522"
spi_cs = 1
irq_gpio = 25
"""
    assert _problems(tmp_path, text) == [
        "f:13: reader.1.irq_gpio: GPIO 25 is needed by lane-2 irq_gpio but already used by lane-1 reset_gpio"
    ]


def test_a_reset_wire_of_two_readers_is_warned_about_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pair.toml"
    readers = "".join(
        f'[[reader]]\nid = "lane-{number}"\nkind = "rc522"\nspi_cs = {number}\nreset_gpio = 25\n'
        'antenna_group = "gate"\n'
        for number in (0, 1)
    )
    path.write_text(f'schema = 1\nname = "x"\nboards = ["pi4"]\n{readers}', encoding="utf-8")
    assert main(["wiring", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "# warning: GPIO 25 is lane-0 and lane-1 reset_gpio" in out
    assert "# GPIO 25 lane-0 and lane-1 reset_gpio\n" in out
    assert out.count("reset_gpio = 25\n") == out.count('antenna_group = "gate"\n') == 2


def test_the_pins_of_a_profile_are_shown_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wiring", "show", "two-rc522"]) == 0
    out = capsys.readouterr().out
    pins = [int(line.split()[2]) for line in out.splitlines() if line.startswith("# GPIO")]
    assert pins == [5, 6, 7, 8, 9, 10, 11, 24, 25]
    assert "irq_gpio = 24" in out


def test_the_console_pins_cannot_also_be_an_interrupt(tmp_path: Path) -> None:
    text = """
[[reader]]
id = "front"
kind = "serial-line"
uart = 0
[[reader]]
id = "lane"
kind = "rc522"
irq_gpio = 14
"""
    assert "GPIO 14 is needed by lane irq_gpio but already used by front UART0 TXD" in _problems(tmp_path, text)[0]


def test_uart4_of_a_pi_4_collides_with_spi0(tmp_path: Path) -> None:
    text = """
[[reader]]
id = "lane"
kind = "rc522"
[[reader]]
id = "front"
kind = "serial-line"
uart = 4
"""
    assert any(
        "GPIO 9 is needed by front UART4 RXD but already used by SPI0 MISO" in item
        for item in _problems(tmp_path, text)
    )


def test_a_board_without_that_uart_or_clock_is_told(tmp_path: Path) -> None:
    text = '[[reader]]\nid = "front"\nkind = "serial-line"\nuart = 2\n[clock]\nchip = "built-in"\n'
    first, second = _problems(tmp_path, text, "zero2w")
    assert "has no UART 2" in first
    assert "fit a ds3231" in second


def test_what_a_profile_does_not_know_is_an_error(tmp_path: Path) -> None:
    found = _problems(tmp_path, '[[reader]]\nid = "x"\nkind = "rc522"\nspeed_hz = 20000000\nspi_cs = 2\ncolour = 1\n')
    assert ["speed_hz" in found[0], "spi_cs" in found[1], "colour" in found[2]] == [True, True, True]


def test_the_verb_shows_what_to_write_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wiring", "show", "two-rc522", "--board", "pi3"]) == 0
    shown = capsys.readouterr().out
    assert "dtparam=spi=on" in shown
    assert "/boot/firmware/config.txt" in shown


DOOR = '[[door]]\nid = "front"\nstrike_gpio = 17\n'


@pytest.mark.parametrize(
    ("lock", "egress", "more", "line"),
    [
        ("fail-secure", "mechanical", "", "gpio=17=op,dl"),
        ("fail-secure", "mechanical", "strike_active_low = true\n", "gpio=17=op,dh"),
        ("fail-safe", "mechanical", "", "gpio=17=op,dh"),
        ("fail-safe", "breakglass", "", "gpio=17=op,dl"),
    ],
)
def test_the_firmware_drives_a_strike_before_linux_runs_as_the_door_is_at_boot(
    tmp_path: Path, lock: str, egress: str, more: str, line: str
) -> None:
    path = tmp_path / "harness.toml"
    text = f'schema = 1\nname = "x"\nboards = ["pi4"]\n{DOOR}lock = "{lock}"\negress = "{egress}"\n{more}'
    path.write_text(text, encoding="utf-8")
    plan = make_plan(path, "pi4")
    assert plan.config_lines == [line]
    assert {f'lock = "{lock}"', f'egress = "{egress}"', *more.splitlines()} <= set(plan.gateway_lines)


def test_a_profile_whose_door_says_nothing_of_lock_and_egress_is_refused(tmp_path: Path) -> None:
    [problem] = _problems(tmp_path, DOOR)
    assert "needs lock (fail-secure or fail-safe) and egress (mechanical or breakglass)" in problem
