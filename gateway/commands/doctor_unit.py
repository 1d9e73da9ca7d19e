"""Lets doctor look from inside of the unit: as its user, in its sandbox, with its program.

What root sees says nothing of what the daemon will see. The unit's own lines, drop-ins included, become those of a
transient unit that runs doctor again. That changes nothing: folders of the unit are opened to it where they are, and
not made. systemd-run would need a message bus; a unit in /run and systemctl need none.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess  # systemctl is the interface
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import FatalError

UNIT = "tapgate.service"
_SECONDS = 60.0
_RUNTIME, _OURS = "/run/tapgate", "/run/tapgate-doctor"
# What a transient unit has of its own, or what would change the machine.
# fmt: off
_LEFT_OUT = frozenset((
    "BusName", "ConfigurationDirectory", "ConfigurationDirectoryMode", "GuessMainPID", "KillMode", "KillSignal",
    "LogsDirectory", "NotifyAccess", "OOMPolicy", "RemainAfterExit", "Restart", "RestartSec", "RuntimeDirectory",
    "RuntimeDirectoryMode", "RuntimeDirectoryPreserve", "StandardError", "StandardInput", "StandardOutput",
    "StateDirectory", "StateDirectoryMode", "SyslogIdentifier", "TimeoutSec", "TimeoutStartSec", "TimeoutStopSec",
    "Type", "WatchdogSec", "WatchdogSignal",
))
# fmt: on


class CannotLookInside(FatalError):
    """Says in one phrase why doctor looks from outside."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What the unit runs, and the lines of a unit that sees what it sees."""

    program: str
    config: Path
    lines: tuple[str, ...]


def find_unit(config: Path | None) -> Unit:
    """Read the installed unit.

    Args:
        config: the file that doctor is asked about, None for the unit's own.

    Raises:
        CannotLookInside: this is not root, systemd does not run, the unit is not installed, or runs with another file.
    """
    if os.geteuid() != 0:
        raise CannotLookInside("only root may start a program in the unit's sandbox")
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise CannotLookInside("systemd does not run here")
    found = _run(["systemctl", "cat", UNIT])
    if found.returncode:
        raise CannotLookInside(f"{UNIT} is not installed")
    unit = parse_unit(found.stdout)
    if config and config.absolute() != unit.config:
        raise CannotLookInside(f"the unit runs with {unit.config}")
    if not unit.config.exists():
        raise CannotLookInside(f"there is no {unit.config} yet")
    return unit


def parse_unit(text: str) -> Unit:
    """Read the text of a unit and its drop-ins, as `systemctl cat` prints them.

    Raises:
        CannotLookInside: it starts something else than `... --config FILE`.
    """
    section, lines, start = "", ["RuntimeDirectory=tapgate-doctor"], ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line.strip()
        name, equals, value = line.partition("=")
        if section != "[Service]" or not equals or line.startswith(("#", ";")):
            continue
        name, value = name.strip(), value.strip()
        if name == "ExecStart":
            start = value or start
        elif name in {"StateDirectory", "LogsDirectory"}:
            lines += [f"ReadWritePaths=-/var/lib/{folder}" for folder in value.split()]
        elif name not in _LEFT_OUT and not name.startswith(("Exec", "FileDescriptorStore")):
            lines.append(f"{name}={_in_our_folder(value)}")
    words = shlex.split(start)
    if "--config" not in words[:-1]:
        raise CannotLookInside(f"{UNIT} starts {start!r}, which names no --config")
    return Unit(words[0].lstrip("-@:+!"), Path(words[words.index("--config") + 1]), tuple(lines))


def _in_our_folder(value: str) -> str:
    return value.replace(_RUNTIME, _OURS) if value.endswith(_RUNTIME) else value


def look_inside(unit: Unit) -> list[dict[str, Any]]:
    """Run doctor as the unit would and return its rows.

    Raises:
        CannotLookInside: it could not be started there.
    """
    with tempfile.TemporaryDirectory(prefix="tapgate-doctor-", dir="/run") as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        own = ("Type=oneshot", f"StandardOutput=file:{out}", f"StandardError=file:{errors}")
        command = f"{unit.program} doctor --json --inside --config {unit.config}"
        path = Path(f"/run/systemd/system/tapgate-doctor-{os.getpid()}.service")
        try:
            path.write_text("\n".join(["[Service]", *unit.lines, *own, f"ExecStart={command}", ""]), encoding="utf-8")
            _run(["systemctl", "start", path.name])
            text = out.read_text(encoding="utf-8") if out.exists() else ""
            rows: list[dict[str, Any]] = json.loads(text)["checks"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            lines = errors.read_text(encoding="utf-8").strip().splitlines() if errors.exists() else []
            why = lines[-1] if lines else type(error).__name__
            raise CannotLookInside(f"the unit's sandbox could not be entered ({why})") from None
        finally:
            path.unlink(missing_ok=True)
            _run(["systemctl", "reset-failed", path.name])
    return rows


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotLookInside(f"{command[0]} did not answer ({type(error).__name__})") from None
