"""The shipped units, started by a real systemd; each property is shown to fail with a unit that lacks its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.systemd import booted
from tests.systemd.booted import CHECKOUT, CONFIG, DOOR, FAKES, boot, drop_in, install

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(bool(booted.missing()), reason=f"a booted systemd {booted.missing()}"),
    pytest.mark.xdist_group("booted"),
]

PINS = f"Environment=PYTHONPATH={FAKES}/pins\nReadWritePaths=/run/lab\nRestartSec=100ms"
PI_4 = "Hardware\t: BCM2711\nRevision\t: c03115\nSerial\t\t: 0\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n"
PYTHON = "/opt/tapgate/.venv/bin/python"
STRIKE = 17


def _twin(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the shipped units with changes, as (pattern, replacement) on the lines of tapgate.service."""
    units = folder / "units"
    units.mkdir()
    for unit in [*(CHECKOUT / "systemd").glob("*.service"), *(CHECKOUT / "systemd").glob("*.slice")]:
        (units / unit.name).write_text(unit.read_text(encoding="utf-8"), encoding="utf-8")
    text = (units / "tapgate.service").read_text(encoding="utf-8")
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count, pattern
    (units / "tapgate.service").write_text(text, encoding="utf-8")
    return units


def _probe(folder: Path, program: str, *, units: Path | None = None, more: str = "", before: str = "") -> str:
    """Start the unit with a Python program in front of the daemon and return what that printed."""
    (folder / "probe.py").write_text(program, encoding="utf-8")
    lines = f"{more}\nExecStartPre=-{PYTHON} /run/lab/probe.py"
    boot(
        folder,
        install(folder) + before + drop_in(lines) + "systemctl start tapgate; systemctl stop tapgate",
        units=units,
    )
    return (folder / "tapgate.log").read_text(encoding="utf-8")


def test_rpi_gpio_finds_the_board_inside_the_unit(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(PI_4, encoding="ascii")
    log = _probe(
        tmp_path,
        "from RPi import GPIO; print('BOARD', GPIO.RPI_INFO['TYPE'])",
        more="BindReadOnlyPaths=/run/lab/cpuinfo:/proc/cpuinfo",
    )
    assert "BOARD Pi 4 Model B" in log


@pytest.mark.parametrize("broken", [False, True])
def test_the_files_that_name_the_board_are_seen_in_the_unit(tmp_path: Path, broken: bool) -> None:
    units = _twin(tmp_path, ("^ProcSubset=all", "ProcSubset=pid")) if broken else None
    log = _probe(tmp_path, "import os; print('CPUINFO', os.path.exists('/proc/cpuinfo'))", units=units)
    assert f"CPUINFO {not broken}" in log


@pytest.mark.parametrize("broken", [False, True])
def test_lgpio_can_make_its_pipe_when_it_is_imported(tmp_path: Path, broken: bool) -> None:
    units = _twin(tmp_path, ("^WorkingDirectory=.*$", ""), ("^Environment=LG_WD.*$", "")) if broken else None
    more = f"Environment=PYTHONPATH={FAKES}/lgpio"
    log = _probe(tmp_path, "import lgpio; print('IMPORTED', lgpio.__file__)", units=units, more=more)
    assert (f"IMPORTED {FAKES}" in log) is not broken
    assert ("Error" in log) is broken


def test_devices_of_the_groups_that_sysusers_makes_can_be_opened(tmp_path: Path) -> None:
    program = "import os\nfor g in ('spi','gpio','dialout','input'): print(g, os.access(f'/run/dev-{g}', os.R_OK))"
    make = "for g in spi gpio dialout input disk; do install -m 660 -g $g /dev/null /run/dev-$g; done\n"
    log = _probe(tmp_path, program + "\nprint('disk', os.access('/run/dev-disk', os.R_OK))", before=make)
    assert re.findall(r"^(\w+) (True|False)$", log, re.MULTILINE) == [
        ("spi", "True"),
        ("gpio", "True"),
        ("dialout", "True"),
        ("input", "True"),
        ("disk", "False"),
    ]


READ_CLOCK = """
import ctypes, time
from gateway.edge.clock import read_kernel_clock
print('ADJTIMEX', ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(400)), read_kernel_clock().synchronised)
try: time.clock_settime(time.CLOCK_REALTIME, time.time())
except OSError as error: print('SET', error.strerror)
"""


@pytest.mark.parametrize("broken", [False, True])
def test_the_clock_can_be_read_and_not_set_inside_the_unit(tmp_path: Path, broken: bool) -> None:
    units = _twin(tmp_path, ("^NoNewPrivileges=yes", "NoNewPrivileges=yes\nProtectClock=yes")) if broken else None
    outside = f"cd /; {PYTHON} /run/lab/probe.py >/run/lab/outside\n"
    (tmp_path / "probe.py").write_text(READ_CLOCK, encoding="utf-8")
    log = _probe(tmp_path, READ_CLOCK, units=units, before=outside)
    inside = next(line for line in log.splitlines() if line.startswith("ADJTIMEX"))
    if broken:
        assert inside.startswith("ADJTIMEX -1")
    else:
        assert inside == (tmp_path / "outside").read_text(encoding="utf-8").splitlines()[0]
    assert "SET Operation not permitted" in log


SEND = """
import socket
for place in ("127.0.0.1", "10.9.9.9", "203.0.113.7"):
    try: print("SENT", place, socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (place, 9)))
    except OSError as error: print("SENT", place, error.strerror)
"""


@pytest.mark.parametrize("with_slice", [True, False])
def test_the_slice_lets_the_unit_speak_to_the_site_s_network_and_no_further(tmp_path: Path, with_slice: bool) -> None:
    units = _twin(tmp_path, ("^Slice=.*$", "")) if not with_slice else None
    log = _probe(tmp_path, SEND, units=units)
    refused = "Operation not permitted"
    assert re.findall(r"^SENT (\S+) (.*)$", log, re.MULTILINE) == [
        ("127.0.0.1", "1"),
        ("10.9.9.9", "1" if with_slice else refused),
        ("203.0.113.7", refused),
    ]


KILL = """
chmod 777 /run/lab
systemctl start tapgate
touch /run/lab/in22; until_true grep -qx "17 RELEASED" /run/lab/pins; rm /run/lab/in22
[ -z "$BREAK" ] || printf '%s' "$BREAK" >/etc/tapgate/gateway.toml
echo END >>/run/lab/pins
kill -SIGNAL $(systemctl show tapgate -p MainPID --value)
tried() { [ $(systemctl show tapgate -p NRestarts --value) -ge 2 ]; }
until_true tried
systemctl stop tapgate
"""
REX = "rex_gpio = 22\nunlock_seconds = 60\n"


def _kill(folder: Path, lock: str, egress: str, *, number: str = "KILL", units: Path | None = None) -> list[str]:
    """Kill the daemon while its door is released, spoil its file, and return the strike's levels since then."""
    released = "1" if lock == "fail-secure" else "0"
    script = KILL.replace("RELEASED", released).replace("SIGNAL", number)
    config = CONFIG + DOOR.format(lock=lock, egress=egress) + REX
    out = boot(folder, "BREAK='[gateway'\n" + install(folder, config) + drop_in(PINS) + script, units=units)
    assert "TIMEOUT" not in out
    lines = (folder / "pins").read_text(encoding="ascii").splitlines()
    after = lines[lines.index("END") :]
    return [released, *(line.removeprefix(f"{STRIKE} ") for line in after if line.startswith(f"{STRIKE} "))]


@pytest.mark.parametrize(
    ("lock", "egress", "number", "level"),
    [
        ("fail-secure", "mechanical", "KILL", "0"),
        ("fail-secure", "mechanical", "ABRT", "0"),
        ("fail-safe", "breakglass", "KILL", "0"),
        ("fail-safe", "mechanical", "KILL", "1"),
    ],
)
def test_a_killed_daemon_that_cannot_come_back_leaves_each_door_in_its_state(
    tmp_path: Path, lock: str, egress: str, number: str, level: str
) -> None:
    assert _kill(tmp_path, lock, egress, number=number)[-1] == level


def test_without_the_guard_the_strike_stays_released(tmp_path: Path) -> None:
    units = _twin(tmp_path, ("^ExecStopPost=.*$", ""), ("^ExecStartPre=-.*guard$", ""))
    assert _kill(tmp_path, "fail-secure", "mechanical", units=units) == ["1"]


def test_at_boot_a_door_has_its_state_before_the_daemon_and_with_a_file_that_does_not_read(tmp_path: Path) -> None:
    config = CONFIG + DOOR.format(lock="fail-safe", egress="mechanical")
    script = """
chmod 777 /run/lab
systemctl start tapgate; systemctl stop tapgate
grep -c . /run/lab/pins; : >/run/lab/pins
echo '[gateway' >/etc/tapgate/gateway.toml
systemctl start tapgate
cat /run/lab/pins
systemctl stop tapgate
"""
    out = boot(tmp_path, install(tmp_path, config) + drop_in(PINS) + script)
    assert out.splitlines()[-1] == f"{STRIKE} 1"
    assert "gateway.toml:1: syntax" in (tmp_path / "tapgate.log").read_text(encoding="utf-8")


LOSE = """
systemctl start tapgate
mv /etc/tapgate/gateway.toml /run/away; systemctl restart tapgate
enough() { [ $(systemctl show tapgate -p NRestarts --value) -ge 8 ] || active tapgate failed; }
until_true enough
systemctl show tapgate -p ActiveState --value
mv /run/away /etc/tapgate/gateway.toml
until_true active tapgate active
systemctl show tapgate -p ActiveState --value
systemctl stop tapgate
"""


@pytest.mark.parametrize("limited", [False, True])
def test_a_door_is_never_given_up_and_comes_back_with_its_file(tmp_path: Path, limited: bool) -> None:
    limit = ("^StartLimitIntervalSec=0", "StartLimitIntervalSec=300\nStartLimitBurst=5")
    units = _twin(tmp_path, limit) if limited else None
    fast = "RestartSec=10ms\nExecStartPre=\nExecStopPost="
    out = boot(tmp_path, install(tmp_path) + drop_in(fast) + LOSE, units=units)
    assert "TIMEOUT: enough" not in out
    states = [line for line in out.splitlines() if line in {"activating", "active", "failed"}]
    assert states[-2:] == (["failed", "failed"] if limited else ["activating", "active"])


def test_without_its_site_key_the_unit_runs_and_takes_the_key_when_it_is_there(tmp_path: Path) -> None:
    script = """
mv /etc/tapgate/site.key /run/away
systemctl start tapgate; systemctl show tapgate -p ActiveState --value
mv /run/away /etc/tapgate/site.key
until_true grep -q "site key: works now" /run/lab/tapgate.log
systemctl show tapgate -p ActiveState -p NRestarts --value
systemctl stop tapgate
"""
    out = boot(tmp_path, install(tmp_path) + script)
    assert out.split() == ["active", "0", "active"]
    log = (tmp_path / "tapgate.log").read_text(encoding="utf-8")
    assert "/etc/tapgate/site.key:0: site_key_file: cannot be read (No such file or directory)" in log


def test_a_second_run_of_tmpfiles_mends_keys_that_root_wrote(tmp_path: Path) -> None:
    script = """
umask 022
for place in tapgate tapgate-hub; do
  for name in site.key gateway.toml ca.crt broker.password; do echo x >/etc/$place/$name; done
done
systemd-tmpfiles --create tapgate.conf
stat -c '%A %U:%G %n' /etc/tapgate /etc/tapgate-hub /etc/tapgate/* /etc/tapgate-hub/*
runuser -u tapgate-hub -- cat /etc/tapgate/site.key 2>/dev/null || echo closed
runuser -u tapgate -- cat /etc/tapgate/site.key
"""
    lines = boot(tmp_path, script).splitlines()
    files = ("broker.password", "ca.crt", "gateway.toml", "site.key")
    assert lines == [
        "drwxr-x--- root:tapgate /etc/tapgate",
        "drwxr-x--- root:tapgate-hub /etc/tapgate-hub",
        *(f"-rw-r----- root:tapgate /etc/tapgate/{name}" for name in files),
        *(f"-rw-r----- root:tapgate-hub /etc/tapgate-hub/{name}" for name in files),
        "closed",
        "x",
    ]


HUB = """
[hub]
broker = "mqtt://127.0.0.1:1"
signing_key_file = "/var/lib/tapgate-hub/hub.key"
[[site]]
id = "st-marys"
site_key_file = "site.key"
"""


def test_the_hub_starts_from_a_folder_of_its_own_beside_the_gateway_s(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(HUB, encoding="utf-8")
    script = (
        install(tmp_path)
        + """
install -m 640 -g tapgate-hub -t /etc/tapgate-hub /run/lab/hub.toml /run/lab/site.key
systemctl start tapgate-hub tapgate
systemctl show tapgate-hub tapgate -p ActiveState --value
stat -c '%A %U:%G %n' /etc/tapgate /etc/tapgate-hub
systemctl stop tapgate-hub tapgate
"""
    )
    assert boot(tmp_path, script).split("\n")[:-1] == [
        "active",
        "",
        "active",
        "drwxr-x--- root:tapgate /etc/tapgate",
        "drwxr-x--- root:tapgate-hub /etc/tapgate-hub",
    ]
