"""Pins that stay as a dying process left them, as those of a Raspberry Pi do.

/run/lab/pins holds one line a change, `PIN LEVEL`; the last one of a pin is its level. Inputs are files /run/lab/inPIN.
"""

from pathlib import Path

BCM, OUT, IN, HIGH, LOW, PUD_UP = 11, 0, 1, 1, 0, 22
_LAB = Path("/run/lab")


def _write(pin: int, level: int) -> None:
    with (_LAB / "pins").open("a", encoding="ascii") as file:
        file.write(f"{pin} {level}\n")


def setwarnings(_on: bool) -> None: ...


def setmode(_mode: int) -> None: ...


def setup(pin: int, direction: int, initial: int | None = None, pull_up_down: int | None = None) -> None:
    if direction == OUT and initial is not None:
        _write(pin, initial)


def output(pin: int, level: int) -> None:
    _write(pin, level)


def input(pin: int) -> int:  # noqa: A001  # its name in RPi.GPIO
    return 0 if (_LAB / f"in{pin}").exists() else 1


def cleanup(pin: int) -> None: ...
