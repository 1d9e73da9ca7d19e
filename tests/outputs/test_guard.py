from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import main
from gateway.errors import GpioFault, RefusedError
from gateway.outputs.guard import GuardedDoor, drive_doors, guard_files, read_guard_file, write_guard_file
from gateway.transports.gpio import Header, RpiGpioHeader
from tests.outputs.test_gpio import Gpio

DOORS = [GuardedDoor("front", 17, high=False), GuardedDoor("back", 18, high=True)]
# The form of the first release; it must be read for as long as a gateway may have written it.
VERSION_1 = b'{"version": 1, "doors": [{"point": "front", "pin": 17, "high": false}]}'


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_guard_file(tmp_path / "doors.json", DOORS)
    assert read_guard_file(tmp_path / "doors.json") == DOORS
    assert [path.name for path in tmp_path.iterdir()] == ["doors.json"]


def test_a_file_of_version_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "doors.json").write_bytes(VERSION_1)
    assert read_guard_file(tmp_path / "doors.json") == DOORS[:1]


def test_an_equal_file_is_left_alone_to_spare_the_card(tmp_path: Path) -> None:
    path = tmp_path / "doors.json"
    write_guard_file(path, DOORS)
    written = path.stat().st_ino
    write_guard_file(path, DOORS)
    assert path.stat().st_ino == written
    write_guard_file(path, DOORS[:1])
    assert path.stat().st_ino != written


def _doors(**changes: object) -> bytes:
    return json.dumps({"version": 1, "doors": [{"point": "front", "pin": 17, "high": False, **changes}]}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"[" * 20_000,
        b"[" * 10_000 + b"]" * 6_000,
        b"[]",
        b'{"version": 2, "doors": []}',
        b'{"version": 1, "doors": {}, "x": 1}' * 2,
        b'{"version": 1}',
        _doors(pin=28),
        _doors(pin=-1),
        _doors(pin=True),
        _doors(pin="17"),
        _doors(high=1),
        _doors(point=None),
        _doors() + b" " * 20_000,
        json.dumps({"version": 1, "doors": [json.loads(VERSION_1)["doors"][0]] * 29}).encode(),
    ],
)
def test_anything_else_is_refused_and_drives_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "doors.json").write_bytes(raw)
    with pytest.raises(RefusedError, match="doors"):
        read_guard_file(tmp_path / "doors.json")
    assert main(["guard", str(tmp_path / "doors.json")]) == 3


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(raw)
    with pytest.raises(RefusedError):
        read_guard_file(path)


def test_each_door_is_driven_and_one_that_cannot_be_keeps_no_other_from_it() -> None:
    gpio = Gpio()
    gpio.taken = {17}
    assert drive_doors(DOORS, lambda: RpiGpioHeader(gpio)) == ["front: GPIO 17 cannot be an output (GPIO busy)."]
    assert gpio.levels == {18: 1}


def test_without_a_header_every_door_is_named() -> None:
    def nothing() -> Header:
        raise GpioFault("GPIO does not work here.")

    assert [fault.partition(":")[0] for fault in drive_doors(DOORS, nothing)] == ["front", "back"]


def test_where_no_door_was_ever_claimed_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert guard_files() == [tmp_path / "run" / "doors.json", tmp_path / "state" / "doors.json"]
    assert main(["guard"]) == 0


def test_a_spoilt_file_of_the_running_service_gives_way_to_the_stored_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    (tmp_path / "doors.json").write_text("{", encoding="ascii")
    (tmp_path / "state" / "doors.json").write_bytes(VERSION_1)
    # There is no header on this machine, so the door is named as one that could not be driven.
    assert main(["guard"]) == 3
    assert "front: GPIO 17 low" in capsys.readouterr().out


def test_the_guard_imports_nothing_that_takes_time() -> None:
    program = (
        "import sys, gateway.commands.guard; "
        "print([m for m in ('msgspec', 'cryptography', 'fastapi', 'paho', 'ssl', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_guard_is_done_within_a_fifth_of_a_second_of_processor_time() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "gateway", "guard", "/nowhere"], check=True)
        took.append(time.monotonic() - started)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5
    assert used < 0.2, took
