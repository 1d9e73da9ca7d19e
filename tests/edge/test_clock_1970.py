"""A Pi without a clock chip: the system time starts in 1970 and a time server answers late. libfaketime bends the time
of a real process; seconds since boot stay true."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.access.event import decode_event
from gateway.access.timeline import Timeline, read_clock_record, stamped_time
from gateway.journal.face import JournalReader
from tests.journal.journals import small, tap

_LIBRARY = Path("/usr/lib") / os.uname().machine.join(["", "-linux-gnu"]) / "faketime" / "libfaketimeMT.so.1"

pytestmark = pytest.mark.skipif(not _LIBRARY.exists(), reason="libfaketime is not installed")

_BOOT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from gateway.access.event import Event
from gateway.edge.clock import Clock, KernelClock
from tests.journal.journals import GATEWAY, small
folder, bent = Path(sys.argv[1]), Path(sys.argv[2])
mark = folder / "synchronized"
journal = small(folder / "journal")
unset = KernelClock(synchronised=False, error_ms=16000)
floor = datetime.fromtimestamp(journal.wall_ms / 1000, UTC)
clock = Clock(floor, kernel=lambda: unset, timesync_mark=mark, rtc_folder=folder)

def keep(kind, **content):
    stamp = clock.stamp()
    event = Event(gw=GATEWAY, boot=journal.boot, at=stamp.at, clock=stamp.clock, up=stamp.up, kind=kind, **content)
    journal.append(event).wait()

def look():
    record = clock.due_record()
    if record:
        keep("clock", data=record)

look()
print("system", datetime.now(UTC).year, "decides by", clock.now().isoformat(), flush=True)
keep("tap", person="early")
keep("tap", person="late")
bent.write_text("+0")
mark.touch()
look()
keep("tap", person="set")
journal.close()
"""


def test_taps_of_a_boot_that_began_in_1970_are_repaired_to_the_true_time(tmp_path: Path) -> None:
    journal = small(tmp_path / "journal", keep_days=7)
    journal.append(tap(at="2026-11-20T15:00:00.000Z", clock="ntp")).wait(5)
    journal.close()
    bent = tmp_path / "faketimerc"
    bent.write_text("@1970-01-01 00:00:30")
    surroundings = {
        "LD_PRELOAD": str(_LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(bent),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }
    command = [sys.executable, "-c", _BOOT, str(tmp_path), str(bent)]
    true_offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env={**os.environ, **surroundings}
    )
    assert done.stdout.startswith("system 1970 decides by 2026-11-20T15:00:0")

    events = [decode_event(raw) for _, raw in JournalReader.open(tmp_path / "journal").stored()]
    timeline = Timeline(record for event in events if (record := read_clock_record(event)))
    taps = {event.person: event for event in events if event.boot == 2 and event.kind == "tap"}
    assert {name: event.clock for name, event in taps.items()} == {"early": "free", "late": "free", "set": "ntp"}
    assert abs(stamped_time(taps["early"]) - datetime(2026, 11, 20, 15, tzinfo=UTC)) < timedelta(seconds=5)
    for name, event in taps.items():
        found = timeline.true_time(event)
        truth = datetime.fromtimestamp(true_offset + event.up, UTC)
        assert found.how == ("set" if name == "set" else "repaired")
        assert found.error_ms is not None
        assert abs(found.at - truth) <= timedelta(milliseconds=found.error_ms + 50)
