"""Starts the shipped units under a real systemd, in namespaces of its own on this machine's root.

    out = boot(tmp_path, "systemctl start tapgate; systemctl is-active tapgate")

The script runs as root beside the units; /run/lab is `tmp_path`. What a unit prints is in tmp_path/tapgate.log.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FAKES = "/opt/tapgate/src/tests/systemd/fakes"
_HERE = Path(__file__).parent
_CGROUPS = Path("/sys/fs/cgroup")
_NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--mount-proc", "--kill-child")

CONFIG = """
[gateway]
id = "gw-door"
site = "st-marys"
site_key_file = "site.key"
[[reader]]
id = "lane-1"
driver = "serial-line"
port = "/dev/ttyUSB0"
point = "lane-1"
[[point]]
id = "lane-1"
kind = "lane"
"""
DOOR = """
[[point]]
id = "front"
kind = "door"
strike_gpio = 17
lock = "{lock}"
egress = "{egress}"
"""
WAIT = r"""
until_true() {
  local end=$((SECONDS + 40))
  while [ $SECONDS -lt $end ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
  echo "TIMEOUT: $*"; return 1
}
active() { [ "$(systemctl show "$1" -p ActiveState --value)" = "$2" ]; }
"""


def missing() -> str:
    """Say in one phrase what keeps this machine from booting a systemd, empty when nothing does."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/lib/systemd/systemd").exists() or shutil.which("unshare") is None:
        return "needs systemd and unshare"
    done = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"needs namespaces ({done.stderr.strip()})" if done.returncode else ""


def install(folder: Path, config: str = CONFIG) -> str:
    """Write configuration and site key for the machine; returns the lines that put them in place."""
    (folder / "gateway.toml").write_text(config, encoding="utf-8")
    (folder / "site.key").write_text("ab" * 32 + "\n", encoding="ascii")
    return "install -m 640 -g tapgate -t /etc/tapgate /run/lab/gateway.toml /run/lab/site.key\n"


def drop_in(lines: str, unit: str = "tapgate.service") -> str:
    """Return the lines that add to a unit's [Service] section."""
    folder = f"/etc/systemd/system/{unit}.d"
    return f"mkdir -p {folder}; cat >{folder}/test.conf <<'E'\n[Service]\n{lines}\nE\nsystemctl daemon-reload\n"


def boot(folder: Path, script: str, *, units: Path | None = None, timeout_seconds: float = 110.0) -> str:
    """Boot, run the script to its end and return what it printed.

    Args:
        units: a folder of units in place of the shipped ones.
    """
    folder.chmod(0o755)
    (folder / "script").write_text(WAIT + script, encoding="utf-8")
    (folder / "out").unlink(missing_ok=True)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LAB": str(folder),
        "CHECKOUT": str(CHECKOUT),
        "PYTHON": f"python{sys.version_info[0]}.{sys.version_info[1]}",
        "SITE": sysconfig.get_path("purelib"),
        "BASE": sys.base_prefix,
        **({"UNITS": str(units)} if units else {}),
    }
    with _cgroup(folder) as enter:
        done = subprocess.run(
            [
                "/bin/sh",
                "-c",
                f'{enter} exec unshare "$@"',
                "boot",
                *_NAMESPACES,
                "/bin/bash",
                str(_HERE / "booted.sh"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    out = folder / "out"
    assert out.exists(), f"systemd did not start: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return out.read_text(encoding="utf-8")


@contextmanager
def _cgroup(folder: Path) -> Iterator[str]:
    """Make a group of its own in every hierarchy; yields the shell words that enter it."""
    name = f"tapgate-test-{os.getpid()}-{folder.name}"[:100]
    roots = [_CGROUPS / part for part in ("systemd", "unified", "devices") if (_CGROUPS / part).is_dir()] or [_CGROUPS]
    groups = [root / name for root in roots]
    for group in groups:
        group.mkdir(exist_ok=True)
    try:
        yield " ".join(f"echo $$ >{group}/cgroup.procs;" for group in groups)
    finally:
        for group in groups:
            # Left to the kernel where a machine that ran into its time limit has not gone yet.
            with suppress(OSError):
                for inner in sorted(group.rglob("*"), reverse=True):
                    if inner.is_dir():
                        inner.rmdir()
                group.rmdir()
