"""`tapgate install gateway|hub|agent`: installs the system files and creates the service's user.

Run it as root from the virtual environment that holds Tapgate. A second run brings the files of a newer release;
configuration, keys and state are never touched.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import FatalError
from gateway.privileges import put_file
from gateway.share import shipped

LAUNCHER = Path("/usr/bin/tapgate")
_UNITS = "etc/systemd/system"
_SHARED = {
    "tapgate.sysusers.conf": "usr/lib/sysusers.d/tapgate.conf",
    "tapgate.tmpfiles.conf": "usr/lib/tmpfiles.d/tapgate.conf",
}


@dataclass(frozen=True, slots=True)
class _Role:
    """What one kind of machine gets: shipped file -> place, and the next step."""

    files: dict[str, str]
    next_step: str


ROLES = {
    "gateway": _Role(
        _SHARED
        | {
            "tapgate.service": f"{_UNITS}/tapgate.service",
            "tapgate.slice": f"{_UNITS}/tapgate.slice",
            "tapgate-web.service": f"{_UNITS}/tapgate-web.service",
            "60-tapgate-readers.rules": "etc/udev/rules.d/60-tapgate-readers.rules",
            "50-tapgate-pcsc.rules": "etc/polkit-1/rules.d/50-tapgate-pcsc.rules",
        },
        "unpack the bundle issued by the hub: tar -C /etc/tapgate -xf SITE-GATEWAY.tar",
    ),
    "hub": _Role(
        _SHARED | {"tapgate-hub.service": f"{_UNITS}/tapgate-hub.service"},
        "tapgate hub init --site ID --address HOST",
    ),
    "agent": _Role(
        _SHARED | {"tapgate-agent.service": f"{_UNITS}/tapgate-agent.service"},
        "write /etc/tapgate-agent/agent.toml (systemd/README.md), then: tapgate agent check",
    ),
}
# Each leaves the machine as it was when it is repeated; the last two need a running systemd and udev.
_STEPS = (
    ("systemd-sysusers",),
    ("systemd-tmpfiles", "--create", "tapgate.conf"),
    ("udevadm", "control", "--reload"),
    ("systemctl", "daemon-reload"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("role", choices=tuple(ROLES), help="what this machine is")


def run(arguments: argparse.Namespace) -> int:
    """Install the files of one role."""
    if os.geteuid() != 0:
        raise FatalError(f"`tapgate install {arguments.role}` writes system files; run it with sudo.")
    role = ROLES[arguments.role]
    source = shipped("systemd")
    for name, place in role.files.items():
        target = Path("/") / place
        try:
            content = (source / name).read_bytes()
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FatalError(f"{error.filename} cannot be used ({error.strerror}).") from None
        put_file(target, content, 0o644, "root", "root")
        print(f"wrote {target}")
    _link(Path(sys.prefix) / "bin" / "tapgate")
    for words in _STEPS:
        _step(*words)
    print(f"Next: {role.next_step}")
    return 0


def _link(program: Path) -> None:
    """Link `tapgate` to a fixed path for people and units, wherever its environment is."""
    if not program.exists():
        raise FatalError(f"{program} is missing; run the `tapgate` of the environment to install.")
    if LAUNCHER.is_symlink() or not LAUNCHER.exists():
        LAUNCHER.unlink(missing_ok=True)
        LAUNCHER.symlink_to(program)
        print(f"linked {LAUNCHER} to {program}")
    else:
        print(f"kept  {LAUNCHER}, which belongs to another installation")


def _step(*words: str) -> None:
    text = " ".join(words)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"warning: `{text}` could not run ({error}); run it by hand")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        print(f"warning: `{text}` failed: {last}")
    else:
        print(f"ran   {text}")
