"""`tapgate doctor`: one row a check - what it is, how it stands, by what evidence, and what mends it.

Without a configuration it looks at the machine only. As root, where the unit is installed, it looks as the unit does:
as its user, in its sandbox (doctor_unit). It changes nothing, opens no reader that a running daemon holds, and prints
no secret. A note is no finding: what the first start makes is not missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.commands.doctor_unit import CannotLookInside, find_unit, look_inside
from gateway.commands.readable import daemon_account, is_open_to_all, may_read, mend
from gateway.config import BrokerSettings, GatewaySettings, load_gateway, read_site_key
from gateway.edge.checkpoints import load_gateway_key
from gateway.edge.clock import UNKNOWN_ERROR_MS, read_kernel_clock
from gateway.edge.options import reader_options
from gateway.edge.startup import check_link_files, lock_of
from gateway.errors import ConfigError, GpioFault, TapgateError
from gateway.journal.face import JournalReader
from gateway.link.causes import why_not_connected
from gateway.link.client import Link
from gateway.points.lock import Situation
from gateway.readers.base import DRIVERS
from gateway.roster.signing import Trust
from gateway.roster.store import CURRENT, RosterStore
from gateway.transports.gpio import open_header

GOOD, NOTE, WARN, FAIL = "good", "note", "warn", "fail"
_SIGNS = {GOOD: "ok  ", NOTE: "note", WARN: "warn", FAIL: "FAIL"}
_LOW_DISK_BYTES = 200 << 20
_PACKAGES = {"rc522": None, "serial-line": None, "mfrc522": "mfrc522"}
_MODEL = Path("/sys/firmware/devicetree/base/model")
_CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")
_CONFIG = Path("/etc/tapgate/gateway.toml")
_MADE_BY_THE_UNIT = Path("/var/lib/tapgate")
_KEPT_PINS = "/sys/module/pinctrl_{}/parameters/persist_gpio_outputs"


@dataclass(frozen=True, slots=True)
class Row:
    """One check: `fix` is empty when nothing needs mending."""

    check: str
    state: str
    evidence: str
    fix: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own words."""
    parser.add_argument("--config", type=Path, help=f"a gateway.toml (default: {_CONFIG} when it exists)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # doctor runs in the unit already


def run(arguments: argparse.Namespace) -> int:
    """Run every check; exit code 0 all good, 1 warnings, 3 failures; notes are good."""
    rows = look(arguments.config) if arguments.inside else _look_as_the_daemon(arguments.config)
    worst = FAIL if any(row.state == FAIL for row in rows) else WARN if any(row.state == WARN for row in rows) else GOOD
    if arguments.json:
        print(json.dumps({"state": worst, "checks": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            print(f"{_SIGNS[row.state]}  {row.check:<22} {row.evidence}")
            if row.fix:
                print(f"{'':30}-> {row.fix}")
    return {GOOD: 0, WARN: 1, FAIL: 3}[worst]


def look(config: Path | None) -> list[Row]:
    """Return every row, as this process sees the machine."""
    rows = list(_machine())
    path = config or _CONFIG
    # One that may not even be looked at is there, and is named as one that cannot be read.
    if config or _is_there(path):
        rows += _configuration(path)
    return rows


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True


def _look_as_the_daemon(config: Path | None) -> list[Row]:
    try:
        rows = [Row(**row) for row in look_inside(find_unit(config))]
    except CannotLookInside as why:
        advice = "what the daemon sees may differ; run doctor as root where the unit is installed"
        return [*look(config), Row("looked", NOTE, f"from outside of the unit: {why}", advice)]
    return [*rows, Row("looked", GOOD, "as tapgate.service does: its user, its sandbox")]


def _machine() -> Iterator[Row]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Row("python", GOOD, f"{version} on {platform.machine()}")
    try:
        yield Row("board", GOOD, _MODEL.read_text(encoding="utf-8").rstrip("\0"))
    except OSError:
        yield Row("board", WARN, "not a Raspberry Pi", "readers on SPI and GPIO doors need one; the demo does not")
    yield _clock()
    if _CONTROLLERS.exists() and "memory" not in _CONTROLLERS.read_text(encoding="ascii").split():
        fix = "add cgroup_enable=memory to /boot/firmware/cmdline.txt and reboot"
        yield Row("memory limits", WARN, "the kernel does not enforce them", fix)
    yield _watchdog()


def _clock() -> Row:
    clock = read_kernel_clock()
    if clock.synchronised:
        return Row("clock", GOOD, f"synchronised, at most {clock.error_ms} ms off")
    if clock.error_ms == UNKNOWN_ERROR_MS:
        fix = "the unit must let adjtimex(2) through: no ProtectClock, and SystemCallFilter as in the shipped unit"
        return Row("clock", FAIL, "the kernel refuses to say whether it is synchronised", fix)
    fix = "enable systemd-timesyncd or chrony; fit a clock chip where the network may be away at boot"
    return Row("clock", WARN, "not synchronised", fix)


def _watchdog() -> Row:
    if Path("/dev/watchdog").exists():
        return Row("hardware watchdog", GOOD, "/dev/watchdog")
    fix = "add dtparam=watchdog=on to config.txt and install systemd/10-tapgate-watchdog.conf"
    return Row("hardware watchdog", WARN, "there is none", fix)


def _configuration(path: Path) -> list[Row]:
    try:
        settings = load_gateway(path, tuple(DRIVERS))
        reader_options(settings)
        settings.file.finish()
    except ConfigError as error:
        return [Row("configuration", FAIL, problem, _mend_of(path) or "mend this line") for problem in error.problems]
    rows = [Row("configuration", GOOD, f"{path}: {len(settings.readers)} readers at {len(settings.points)} points")]
    rows += [Row("configuration", WARN, warning, "look at this line") for warning in settings.file.warnings]
    checks: tuple[Callable[[GatewaySettings], Iterator[Row]], ...] = (
        _site_key,
        _state_folder,
        _journal,
        _roster,
        _gateway_key,
        _readers,
        _gpio,
        _hub,
        _pages,
    )
    for check in checks:
        rows += check(settings)
    return rows


def _mend_of(path: Path) -> str:
    """Return the command that lets the daemon read a file, empty when it can or the file is not there."""
    account = daemon_account()
    try:
        return "" if may_read(path, account) else mend(path, account)
    except PermissionError:
        return (
            f"let the user {account.name} into {path.parent} and read {path.name}: run doctor as root for the command"
        )
    except OSError:
        return ""


def _site_key(settings: GatewaySettings) -> Iterator[Row]:
    path, account = settings.site_key_file, daemon_account()
    try:
        readable, is_open = may_read(path, account), is_open_to_all(path)
    except OSError as error:
        put = f"put the site's key there: install -m 640 -g tapgate FILE {path}"
        yield Row("site key", FAIL, f"{path} cannot be looked at ({error.strerror})", _mend_of(path) or put)
        return
    if not readable:
        yield Row("site key", FAIL, f"the user {account.name} cannot read {path}", mend(path, account))
        return
    if is_open:
        yield Row("site key", FAIL, "every user may read it", mend(path, account))
        return
    try:
        read_site_key(path)
    except ConfigError as error:
        yield Row("site key", FAIL, str(error), "write the key again, 64 hex digits; hub and gateway share it")
    else:
        yield Row("site key", GOOD, f"the user {account.name} can read it, and others cannot")


def _state_folder(settings: GatewaySettings) -> Iterator[Row]:
    folder = settings.state_dir
    probe = next(parent for parent in (folder, *folder.parents) if _is_there(parent))
    kind = _filesystem_of(probe)
    if kind in {"tmpfs", "overlay", "ramfs"}:
        fix = "mount a partition of its own there; what lies on this one is gone at the next start"
        yield Row("state folder", FAIL, f"{folder} lies on {kind}", fix)
    elif os.statvfs(probe).f_flag & os.ST_RDONLY and os.access(probe.parent, os.W_OK):
        fix = "read the kernel's log, then mend or replace the memory card; doors go on, nothing is recorded"
        yield Row("state folder", FAIL, f"{folder} is read-only", fix)
    elif probe != folder and folder == _MADE_BY_THE_UNIT:
        yield Row("state folder", NOTE, f"there is no {folder} yet", "the unit makes it when it first starts")
    elif not os.access(probe, os.W_OK):
        yield Row("state folder", WARN, f"{folder} cannot be written by this user", "run doctor as the daemon's user")
    else:
        yield Row("state folder", GOOD, f"{folder} on {kind}")
    free = shutil.disk_usage(probe).free
    if free < _LOW_DISK_BYTES:
        yield Row("disk", WARN, f"{free >> 20} MiB free", "make room; at the end new taps cannot be recorded")
    else:
        yield Row("disk", GOOD, f"{free >> 20} MiB free")


def _filesystem_of(path: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, name, *_ = line.split()
        inside = str(path.resolve()).startswith(point.rstrip("/") + "/") or point in {"/", str(path.resolve())}
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


def _journal(settings: GatewaySettings) -> Iterator[Row]:
    folder = settings.state_dir / "journal"
    if not _is_there(folder):
        yield Row("journal", NOTE, "there is none yet", "it is made when the daemon first starts")
        return
    try:
        reader = JournalReader.open(folder)
    except (TapgateError, OSError) as error:
        yield Row("journal", FAIL, str(error), "run `tapgate journal verify` on it")
        return
    evidence = f"{reader.head} events, {reader.head - reader.acked} not at the hub yet"
    damage = reader.damage()
    if damage:
        yield Row("journal", WARN, f"{evidence}; {len(damage)} damaged places", "`tapgate journal verify` names them")
    else:
        yield Row("journal", GOOD, evidence)


def _roster(settings: GatewaySettings) -> Iterator[Row]:
    folder = settings.state_dir / "roster"
    if not _is_there(folder / CURRENT):
        yield Row("roster", NOTE, "none has arrived; every tap is denied", "the hub sends one at the first contact")
        return
    try:
        site_key = read_site_key(settings.site_key_file)
    except ConfigError:
        yield Row("roster", WARN, "it cannot be checked without the site key", "mend the site key first")
        return
    store = RosterStore(folder, Trust(site_key, settings.roster_signer), settings.site)
    snapshot = store.load()
    if snapshot is None:
        yield Row("roster", FAIL, str(store.fault), "the hub sends a new one; check that both sides share the site key")
    elif store.fault:
        yield Row("roster", WARN, f"version {snapshot.version} is used; {store.fault}", "the hub sends a new one")
    else:
        yield Row(
            "roster", GOOD, f"version {snapshot.version}, {snapshot.count} cards, made {snapshot.created:%d %b %H:%M}"
        )


def _gateway_key(settings: GatewaySettings) -> Iterator[Row]:
    path = settings.state_dir / "gateway.key"
    if not _is_there(path):
        return
    try:
        load_gateway_key(path)
    except TapgateError as error:
        yield Row("gateway key", FAIL, str(error), "without it the journal goes on without signed checkpoints")


def _readers(settings: GatewaySettings) -> Iterator[Row]:
    for item in settings.readers:
        name = f"reader {item.id}"
        package = _PACKAGES.get(item.driver)
        if package and importlib.util.find_spec(package) is None:
            yield Row(name, FAIL, f"driver {item.driver} needs the package {package}", "install the extra 'pi'")
        elif not item.port.startswith("/dev/"):
            yield Row(name, GOOD, f"{item.driver} at {item.port}")
        elif not Path(item.port).exists():
            yield Row(name, FAIL, f"{item.port} does not exist", _port_hint(item.port))
        elif not os.access(item.port, os.R_OK | os.W_OK):
            yield Row(name, FAIL, f"{item.port} cannot be opened by this user", "add the user to group spi or dialout")
        else:
            yield Row(name, GOOD, f"{item.driver} at {item.port}")


def _port_hint(port: str) -> str:
    if "spidev" in port:
        return "add dtparam=spi=on to /boot/firmware/config.txt and reboot; `tapgate wiring show` writes the lines"
    return "plug the reader in, or correct `port`; `ls -l /dev/serial/by-id /dev/tapgate` shows what is there"


def _gpio(settings: GatewaySettings) -> Iterator[Row]:
    pins_used = [pin for point in settings.points for pin in (point.strike_gpio, point.contact_gpio, point.rex_gpio)]
    pins_used += [reader.options.get("reset_gpio") for reader in settings.readers]
    pins = [pin for pin in pins_used if pin is not None]
    if not pins:
        return
    try:
        header = open_header()
    except GpioFault as error:
        fix = "install the extra 'pi' on a Raspberry Pi; the daemon's user belongs to group gpio"
        yield Row("gpio", FAIL, f"{len(pins)} pins are configured. {error}", fix)
        return
    yield Row("gpio", GOOD, f"{len(pins)} pins are used, driven by {header.name}")
    held = [
        item.id
        for item in settings.points
        if item.strike_gpio is not None and lock_of(item).is_high(Situation.CRASH) and header.name == "gpiod"
    ]
    if held and any(_reads(_KEPT_PINS.format(chip)) == "N" for chip in ("rp1", "bcm2835")):
        evidence = f"the kernel lets go of a pin with its process, so after a crash nothing holds {', '.join(held)}"
        yield Row("gpio", WARN, evidence, "remove dtparam=strict_gpiod from /boot/firmware/config.txt and reboot")


def _reads(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _hub(settings: GatewaySettings) -> Iterator[Row]:
    if settings.hub is None:
        yield Row("hub link", WARN, "no [hub] section", "taps stay on this gateway until there is one")
        return
    yield from _hub_files(settings.hub)
    silent, unnamed = [], False
    for host, port in settings.hub.places:
        try:
            socket.create_connection((host, port), timeout=3).close()
        except (OSError, UnicodeError) as error:
            silent.append(why_not_connected(error, f"{host}:{port}", tls=settings.hub.tls))
            # The unit's network list drops what it does not name, which looks like nobody there.
            unnamed = unnamed or isinstance(error, TimeoutError | PermissionError)
        else:
            yield Row("hub link", GOOD, f"a broker answers at {host}:{port}")
    # A cluster is there to lose a node; only all of them silent stops the taps.
    result = FAIL if len(silent) == len(settings.hub.places) else WARN
    fix = "check the network, the broker, the firewall"
    if unnamed:
        fix += "; an address outside of the private networks is named as IPAddressAllow in tapgate.slice.d/hub.conf"
    for what in silent:
        yield Row("hub link", result, what, fix)


def _hub_files(hub: BrokerSettings) -> Iterator[Row]:
    sentences = check_link_files(hub)
    if not sentences:
        try:
            # Nothing connects before its start; this reads the files as the daemon does.
            Link(hub, "doctor")
        except (TapgateError, ValueError) as error:
            sentences = [str(error)]
    for sentence in sentences:
        paths = [path for path in (hub.ca_file, hub.cert_file, hub.key_file, hub.password_file) if path]
        fix = next((command for path in paths if (command := _mend_of(path))), "put the right file there; see [hub]")
        yield Row("hub link", FAIL, sentence, fix)


def _pages(settings: GatewaySettings) -> Iterator[Row]:
    if settings.web is None or settings.web.till_token_file is None:
        return
    path = settings.web.till_token_file
    if not _is_there(path) or _mend_of(path):
        fix = _mend_of(path) or f"write a token there: openssl rand -hex 32 >{path}"
        yield Row("pages", WARN, f"till_token_file {path} cannot be read", fix)
