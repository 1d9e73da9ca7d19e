"""`tapgate doctor`: one row a check - what it is, how it stands, by what evidence, and what mends it.

Without a configuration it looks at the machine only. It changes nothing, opens no reader that a running daemon holds,
and prints no secret.
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

from gateway.config import GatewaySettings, load_gateway, read_site_key
from gateway.edge.clock import read_kernel_clock
from gateway.edge.options import reader_options
from gateway.errors import ConfigError, TapgateError
from gateway.journal.face import JournalReader
from gateway.readers.base import DRIVERS
from gateway.roster.signing import Trust
from gateway.roster.store import CURRENT, RosterStore

GOOD, WARN, FAIL = "good", "warn", "fail"
_SIGNS = {GOOD: "ok  ", WARN: "warn", FAIL: "FAIL"}
_LOW_DISK_BYTES = 200 << 20
_PACKAGES = {"rc522": None, "serial-line": None, "mfrc522": "mfrc522"}
_MODEL = Path("/sys/firmware/devicetree/base/model")
_CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")


@dataclass(frozen=True, slots=True)
class Row:
    """One check: `fix` is empty when nothing needs mending."""

    check: str
    state: str
    evidence: str
    fix: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own words."""
    parser.add_argument(
        "--config", type=Path, help="a gateway.toml (default: /etc/tapgate/gateway.toml when it exists)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run every check; exit code 0 all good, 1 warnings, 3 failures."""
    path = arguments.config or Path("/etc/tapgate/gateway.toml")
    rows = list(_machine())
    if arguments.config or path.exists():
        rows += _configuration(path)
    worst = FAIL if any(row.state == FAIL for row in rows) else WARN if any(row.state == WARN for row in rows) else GOOD
    if arguments.json:
        print(json.dumps({"state": worst, "checks": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            print(f"{_SIGNS[row.state]}  {row.check:<22} {row.evidence}")
            if row.fix:
                print(f"{'':30}-> {row.fix}")
    return {GOOD: 0, WARN: 1, FAIL: 3}[worst]


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
        site_key = read_site_key(settings.site_key_file)
    except ConfigError as error:
        return [Row("configuration", FAIL, problem, "mend this line") for problem in error.problems]
    rows = [Row("configuration", GOOD, f"{path}: {len(settings.readers)} readers at {len(settings.points)} points")]
    checks: tuple[Callable[[GatewaySettings], Iterator[Row]], ...] = (_state_folder, _journal, _readers, _gpio, _hub)
    for check in checks:
        rows += check(settings)
    rows += _roster(settings, site_key)
    mode = settings.site_key_file.stat().st_mode & 0o077
    if mode & 0o007:
        rows.append(Row("site key", FAIL, "every user may read it", f"chmod 640 {settings.site_key_file}"))
    return rows


def _state_folder(settings: GatewaySettings) -> Iterator[Row]:
    folder = settings.state_dir
    probe = next(parent for parent in (folder, *folder.parents) if parent.exists())
    kind = _filesystem_of(probe)
    if kind in {"tmpfs", "overlay", "ramfs"}:
        fix = "mount a partition of its own there; what lies on this one is gone at the next start"
        yield Row("state folder", FAIL, f"{folder} lies on {kind}", fix)
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
    if not folder.exists():
        yield Row("journal", WARN, "there is none yet", "it is made when the daemon first starts")
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


def _roster(settings: GatewaySettings, site_key: bytes) -> Iterator[Row]:
    store = RosterStore(settings.state_dir / "roster", Trust(site_key, settings.roster_signer), settings.site)
    if not (settings.state_dir / "roster" / CURRENT).exists():
        yield Row("roster", WARN, "none has arrived; every tap is denied", "start the hub and check the hub link")
        return
    snapshot = store.load()
    if snapshot is None:
        yield Row("roster", FAIL, str(store.fault), "the hub sends a new one; check that both sides share the site key")
    elif store.fault:
        yield Row("roster", WARN, f"version {snapshot.version} is used; {store.fault}", "the hub sends a new one")
    else:
        yield Row(
            "roster", GOOD, f"version {snapshot.version}, {snapshot.count} cards, made {snapshot.created:%d %b %H:%M}"
        )


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
    wanted = [pin for point in settings.points for pin in (point.strike_gpio, point.contact_gpio, point.rex_gpio)]
    # A reset pin is driven through RPi.GPIO too; an interrupt pin is the kernel's own line.
    wanted += [reader.options.get("reset_gpio") for reader in settings.readers]
    pins = [pin for pin in wanted if pin is not None]
    if not pins:
        return
    if importlib.util.find_spec("RPi") is None:
        yield Row("gpio", FAIL, "pins are configured and RPi.GPIO is not installed", "install the extra 'pi' or 'pi5'")
    else:
        yield Row("gpio", GOOD, f"{len(pins)} pins are used")


def _hub(settings: GatewaySettings) -> Iterator[Row]:
    if settings.hub is None:
        yield Row("hub link", WARN, "no [hub] section", "taps stay on this gateway until there is one")
        return
    silent = []
    for host, port in settings.hub.places:
        try:
            socket.create_connection((host, port), timeout=3).close()
        except OSError as error:
            silent.append(f"no broker answers at {host}:{port} ({error})")
        else:
            yield Row("hub link", GOOD, f"a broker answers at {host}:{port}")
    # A cluster is there to lose a node; only all of them silent stops the taps.
    result = FAIL if len(silent) == len(settings.hub.places) else WARN
    for what in silent:
        yield Row("hub link", result, what, "check the network, the broker, the firewall")
    for path in (settings.hub.ca_file, settings.hub.cert_file, settings.hub.key_file, settings.hub.password_file):
        if path is not None and not path.exists():
            yield Row("hub link", FAIL, f"{path} does not exist", "put the file there or correct the key in [hub]")
