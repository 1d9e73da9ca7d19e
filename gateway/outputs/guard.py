"""Drives each door to its state without a daemon, from a small file that the daemon wrote while all was well.

A pin stays as a dying process left it. So whatever ends the daemon (a signal, the watchdog, the out-of-memory killer, a
configuration that no longer reads) the service manager runs this afterwards, and once more before the daemon starts. It
reads no configuration, opens no network and imports nothing that takes time.

    {"version": 1, "doors": [{"point": "front-door", "pin": 17, "high": false}]}

`high` is the level of the pin without a daemon (points.lock: boot, crash and stop are the same level). The file lies in
the state folder for the next boot, and in the runtime folder for as long as the service lives, where a memory card that
went read-only cannot keep it from being written.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import GpioFault, RefusedError
from gateway.transports.gpio import Header, open_header

FILE_NAME = "doors.json"
VERSION = 1
_MOST_BYTES = 16_384
_PINS = range(28)


@dataclass(frozen=True, slots=True)
class GuardedDoor:
    """One lock's pin and its level without a daemon."""

    point: str
    pin: int
    high: bool


def guard_files(state_dir: Path | None = None) -> list[Path]:
    """Return the places of the file, that of the running service first.

    Args:
        state_dir: of the daemon; None for the service manager's.
    """
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    folders = [Path(runtime)] if runtime else []
    folders.append(state_dir or Path(os.environ.get("STATE_DIRECTORY") or "/var/lib/tapgate"))
    return [folder / FILE_NAME for folder in folders]


def write_guard_file(path: Path, doors: Sequence[GuardedDoor]) -> None:
    """Write the file so that a power cut leaves the old or the new one; an equal one is left alone.

    Raises:
        OSError: the folder takes no file.
    """
    items = [{"point": door.point, "pin": door.pin, "high": door.high} for door in doors]
    raw = json.dumps({"version": VERSION, "doors": items}, indent=1).encode()
    with contextlib.suppress(OSError):
        if path.read_bytes() == raw:
            return
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_guard_file(path: Path) -> list[GuardedDoor]:
    """Read the file.

    Raises:
        FileNotFoundError: there is none; no door was ever claimed here.
        RefusedError: it cannot be read or holds something else.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RefusedError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        doors = _parse_file(raw)
    except (ValueError, KeyError, TypeError, RecursionError):
        why = f"{path} is not a file of version {VERSION} of doors; the daemon writes a new one."
        raise RefusedError(why) from None
    return doors


def _parse_file(raw: bytes) -> list[GuardedDoor]:
    content = json.loads(raw) if len(raw) <= _MOST_BYTES else {}
    if content["version"] != VERSION or len(content["doors"]) > len(_PINS):
        raise ValueError
    return [_parse(item) for item in content["doors"]]


def _parse(item: dict[str, object]) -> GuardedDoor:
    point, pin, high = item["point"], item["pin"], item["high"]
    if not isinstance(point, str) or type(pin) is not int or pin not in _PINS or type(high) is not bool:
        raise ValueError
    return GuardedDoor(point, pin, high)


def drive_doors(doors: Sequence[GuardedDoor], open_pins: Callable[[], Header] = open_header) -> list[str]:
    """Drive each door's pin; one that cannot be driven keeps no other from it.

    Returns:
        What could not be driven, one sentence each, beginning with the point.
    """
    if not doors:
        return []
    try:
        header = open_pins()
    except GpioFault as error:
        return [f"{door.point}: {error}" for door in doors]
    faults = []
    for door in doors:
        try:
            header.claim_output(door.pin, high=door.high)
        except GpioFault as error:
            faults.append(f"{door.point}: {error}")
    return faults
