"""`tapgate wiring`: checks a wiring profile for a board and prints its firmware lines.

A profile says what is connected to which pin. The pins of a bus may be shared, every other claim is exclusive; claims
are made in file order, so a conflict names the later claim and the earlier one. Overlay names and pins: the overlays
README and the UART and SPI pages of the Raspberry Pi documentation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.config import EGRESS_WAYS, LOCK_KINDS
from gateway.errors import ConfigError
from gateway.points.lock import Egress, Lock, LockKind, Situation
from gateway.settings_file import SettingsFile, Table
from gateway.share import shipped
from gateway.transports.header import I2C_LINES, SPI_LINES, SPI_SELECTS

EXIT_GOOD = 0
_RC522_MAX_HZ = 10_000_000
# MFRC522 data sheet, limiting values: about 13 mA for the logic and at most 100 mA for the transmitter.
_RC522_MILLIAMPERE = 113
_HEADER_3V3_MILLIAMPERE = 500
_RESET = "reset_gpio"


@dataclass(frozen=True, slots=True)
class Board:
    """What one model's header offers.

    Attributes:
        uarts: transmit pin, receive pin and config.txt line of each UART.
        built_in_clock: whether the board has its own clock chip.
    """

    title: str
    uarts: dict[int, tuple[int, int, str]]
    built_in_clock: bool = False


_BCM2710 = {0: (14, 15, "enable_uart=1")}
_BCM2711 = {
    0: (14, 15, "enable_uart=1"),
    2: (0, 1, "dtoverlay=uart2"),
    3: (4, 5, "dtoverlay=uart3"),
    4: (8, 9, "dtoverlay=uart4"),
    5: (12, 13, "dtoverlay=uart5"),
}
_RP1 = {
    0: (14, 15, "dtparam=uart0=on"),
    1: (0, 1, "dtoverlay=uart1-pi5"),
    2: (4, 5, "dtoverlay=uart2-pi5"),
    3: (8, 9, "dtoverlay=uart3-pi5"),
    4: (12, 13, "dtoverlay=uart4-pi5"),
}
BOARDS = {
    "zero2w": Board("Raspberry Pi Zero 2 W", _BCM2710),
    "pi3": Board("Raspberry Pi 3", _BCM2710),
    "pi4": Board("Raspberry Pi 4", _BCM2711),
    "pi5": Board("Raspberry Pi 5", _RP1, built_in_clock=True),
}


@dataclass(slots=True)
class Plan:
    """What a profile needs of one board."""

    config_lines: list[str] = field(default_factory=list)
    cmdline: list[str] = field(default_factory=list)
    gateway_lines: list[str] = field(default_factory=list)
    milliampere: int = 0
    warnings: list[str] = field(default_factory=list)
    _claims: dict[int, str] = field(default_factory=dict)
    _shared: dict[int, str] = field(default_factory=dict)

    @property
    def pins(self) -> list[tuple[int, str]]:
        """Return what is connected to each pin, in pin order."""
        return sorted((self._shared | self._claims).items())

    def claim(self, pin: int, who: str, problem: Callable[[str], None]) -> None:
        """Take a pin alone."""
        holder = self._claims.get(pin) or self._shared.get(pin)
        if holder:
            problem(f"GPIO {pin} is needed by {who} but already used by {holder}")
        else:
            self._claims[pin] = who

    def share(self, pin: int, bus: str, problem: Callable[[str], None]) -> None:
        """Claim a pin shared with everything else on the same bus."""
        holder = self._claims.get(pin) or self._shared.get(pin)
        if holder and holder != bus:
            problem(f"GPIO {pin} is needed by {bus} but already used by {holder}")
        self._shared.setdefault(pin, bus)

    def share_reset(self, pin: int, who: str, problem: Callable[[str], None]) -> None:
        """Claim a pin shared with other readers' resets: one wire, pulled only when a chip does not answer."""
        before = self._shared.get(pin, "")
        if not before.endswith(_RESET):
            self.share(pin, f"{who} {_RESET}", problem)
            return
        self._shared[pin] = f"{before.removesuffix(_RESET)}and {who} {_RESET}"
        self.warnings.append(f"GPIO {pin} is {self._shared[pin]}: pulling it for one also resets the other")

    def line(self, text: str) -> None:
        if text not in self.config_lines:
            self.config_lines.append(text)


def make_plan(path: Path, board_name: str) -> Plan:
    """Check a profile for a board and return its firmware lines.

    Raises:
        ConfigError: every problem of the profile, as `file:line: key: message`.
    """
    file = SettingsFile(path)
    board, plan = BOARDS[board_name], Plan()
    root = Table(file, "", {key: value for key, value in file.root.items() if not isinstance(value, dict | list)})
    if file.root.get("schema") != 1:
        file.problem("schema", "must be 1")
    if board_name not in file.root.get("boards", []):
        file.problem("boards", f"does not name {board_name!r}; this profile was not made for a {board.title}")
    root.take("name", str)
    spi_selects: dict[int, int] = {}
    for table in file.tables("reader"):
        kind = table.take(
            "kind", str, check=lambda value: None if value in _READERS else "must be rc522 or serial-line"
        )
        _READERS.get(kind, _plan_nothing)(table, board, plan, spi_selects)
        table.finish()
    for table in file.tables("door"):
        _plan_door(table, plan)
    _plan_rest(file, board, plan)
    if 1 in spi_selects:
        plan.line(f"dtoverlay=spi1-{spi_selects[1] + 1}cs")
    if plan.milliampere > _HEADER_3V3_MILLIAMPERE:
        file.problem("reader", f"the readers may draw {plan.milliampere} mA at 3.3 V; use a separate supply")
    file.finish()
    return plan


def _plan_nothing(table: Table, _board: Board, _plan: Plan, _selects: dict[int, int]) -> None:
    table.rest()


def _plan_rc522(table: Table, _board: Board, plan: Plan, selects: dict[int, int]) -> None:
    name = table.take("id", str)
    bus = table.take("spi_bus", int, 0, lambda value: None if value in SPI_LINES else "must be 0 or 1")
    select = table.take("spi_cs", int, 0)
    speed_hz = table.take("speed_hz", int, 4_000_000)
    if speed_hz > _RC522_MAX_HZ:
        table.problem("speed_hz", f"an RC522 takes at most {_RC522_MAX_HZ} Hz")
    if select not in SPI_SELECTS[bus]:
        table.problem("spi_cs", f"SPI{bus} has chip selects {', '.join(map(str, SPI_SELECTS[bus]))} only")
        return
    for line, pin in SPI_LINES[bus].items():
        plan.share(pin, f"SPI{bus} {line}", partial(table.problem, "spi_bus"))
    plan.claim(SPI_SELECTS[bus][select], f"{name} chip select", partial(table.problem, "spi_cs"))
    reset, irq = table.take("reset_gpio", int, None), table.take("irq_gpio", int, None)
    if reset is not None:
        plan.share_reset(reset, name, partial(table.problem, "reset_gpio"))
    if irq is not None:
        plan.claim(irq, f"{name} irq_gpio", partial(table.problem, "irq_gpio"))
    group = table.take("antenna_group", str, "")
    selects[bus] = max(select, selects.get(bus, 0))
    if bus == 0:
        plan.line("dtparam=spi=on")
    plan.milliampere += _RC522_MILLIAMPERE
    plan.gateway_lines += ["[[reader]]", f'id = "{name}"', 'driver = "rc522"', f'port = "/dev/spidev{bus}.{select}"']
    plan.gateway_lines += [
        f"speed_hz = {speed_hz}",
        *([f"reset_gpio = {reset}"] if reset is not None else []),
        *([f"irq_gpio = {irq}"] if irq is not None else []),
        *([f'antenna_group = "{group}"'] if group else []),
        f'point = "{name}"',
        "",
    ]


def _plan_serial(table: Table, board: Board, plan: Plan, _selects: dict[int, int]) -> None:
    name, number = table.take("id", str), table.take("uart", int, 0)
    baud = table.take("baud", int, 9600)
    if number not in board.uarts:
        table.problem("uart", f"a {board.title} has no UART {number} on its header")
        return
    transmit, receive, line = board.uarts[number]
    for pin, what in ((transmit, "TXD"), (receive, "RXD")):
        plan.claim(pin, f"{name} UART{number} {what}", partial(table.problem, "uart"))
    plan.line(line)
    if number == 0:
        plan.line("dtoverlay=disable-bt")
        plan.cmdline.append("remove console=serial0,115200")
    port = "/dev/serial0" if number == 0 else f"/dev/ttyAMA{number}"
    plan.gateway_lines += ["[[reader]]", f'id = "{name}"', 'driver = "serial-line"', f'port = "{port}"']
    plan.gateway_lines += [f"baud = {baud}", f'point = "{name}"', ""]


def _one_of(words: tuple[str, ...]) -> Callable[[str], str | None]:
    return lambda value: None if value in words else f"must be {' or '.join(words)}"


_READERS: dict[str, Callable[[Table, Board, Plan, dict[int, int]], None]] = {
    "rc522": _plan_rc522,
    "serial-line": _plan_serial,
}


def _plan_door(table: Table, plan: Plan) -> None:
    name = table.take("id", str)
    lines = ["[[point]]", f'id = "{name}"', 'kind = "door"']
    lock = table.take("lock", str, None, _one_of(LOCK_KINDS))
    egress = table.take("egress", str, None, _one_of(EGRESS_WAYS))
    active_low = table.take("strike_active_low", bool, False)
    for key in ("strike_gpio", "contact_gpio", "rex_gpio"):
        pin = table.take(key, int, None)
        if pin is None:
            continue
        if key != "strike_gpio" and pin in I2C_LINES.values():
            table.problem(key, f"GPIO {pin} has a fixed pull-up for I2C; use another pin for a contact")
        plan.claim(pin, f"{name} {key}", partial(table.problem, key))
        lines.append(f"{key} = {pin}")
        if key == "strike_gpio":
            if lock is None or egress is None:
                table.problem(key, f"needs lock ({' or '.join(LOCK_KINDS)}) and egress ({' or '.join(EGRESS_WAYS)})")
                continue
            lines += [f'lock = "{lock}"', f'egress = "{egress}"', *(["strike_active_low = true"] if active_low else [])]
            high = Lock(LockKind(lock), Egress(egress), active_low).is_high(Situation.BOOT)
            # The firmware drives the pin seconds before Linux runs; the header's own pulls would decide until then.
            plan.line(f"gpio={pin}=op,{'dh' if high else 'dl'}")
    table.finish()
    plan.gateway_lines += [*lines, ""]


def _plan_rest(file: SettingsFile, board: Board, plan: Plan) -> None:
    clock = file.table("clock", required=False)
    if clock:
        chip = clock.take("chip", str, "ds3231", lambda chip: None if chip in {"ds3231", "built-in"} else "is unknown")
        if chip == "built-in" and not board.built_in_clock:
            clock.problem("chip", f"a {board.title} has no clock chip of its own; fit a ds3231")
        if chip == "ds3231":
            for line, pin in I2C_LINES.items():
                plan.share(pin, f"I2C1 {line}", partial(clock.problem, "chip"))
            plan.line("dtparam=i2c_arm=on")
            plan.line("dtoverlay=i2c-rtc,ds3231")
        clock.finish()
    watchdog = file.table("watchdog", required=False)
    if watchdog:
        if watchdog.take("enabled", bool, True):
            plan.line("dtparam=watchdog=on")
        watchdog.finish()
    plan.cmdline.append("add cgroup_enable=memory")
    for key in file.root:
        if key not in {"schema", "name", "boards", "reader", "door", "clock", "watchdog"}:
            file.problem(key, "is not part of a wiring profile")


def profiles_folder() -> Path:
    """Return the folder of the shipped profiles, installed or in a checkout."""
    return shipped("firmware_config") / "profiles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("what", choices=["list", "check", "show"], help="list profiles, check one, or print its lines")
    parser.add_argument("profile", nargs="?", type=Path, help="a profile file, or the name of a shipped profile")
    parser.add_argument("--board", choices=sorted(BOARDS), default="pi4", help="the Raspberry Pi model")


def run(arguments: argparse.Namespace) -> int:
    """List, check or show."""
    if arguments.what == "list":
        for path in sorted(profiles_folder().glob("*.toml")):
            print(f"{path.stem:20} {SettingsFile(path).root['name']}")
        return EXIT_GOOD
    if arguments.profile is None:
        raise ConfigError(["wiring:0: profile: is missing; choose one from `tapgate wiring list`"])
    path = arguments.profile
    if not path.exists():
        path = profiles_folder() / f"{path.name.removesuffix('.toml')}.toml"
    plan = make_plan(path, arguments.board)
    for warning in plan.warnings:
        print(f"# warning: {warning}")
    if arguments.what == "check":
        print(f"{path.name} fits a {BOARDS[arguments.board].title}: about {plan.milliampere} mA at 3.3 V.")
        return EXIT_GOOD
    print("# pins of the header")
    print("\n".join(f"# GPIO {pin:<2} {what}" for pin, what in plan.pins))
    print("\n# /boot/firmware/config.txt")
    print("\n".join(plan.config_lines))
    print("\n# /boot/firmware/cmdline.txt (one line)")
    print("\n".join(f"# {change}" for change in plan.cmdline))
    print("\n# gateway.toml")
    print("\n".join(plan.gateway_lines))
    return EXIT_GOOD
