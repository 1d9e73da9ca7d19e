from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.edge.clock import Clock, KernelClock, judge_kernel_clock, read_kernel_clock

SCHOOL_DAY = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)


class Machine:
    """A Pi's sense of time: what its system clock says, how long it is up, whether a time server was heard."""

    def __init__(self, tmp_path: Path, wall: datetime, up: float = 10.0) -> None:
        self.seconds = wall.timestamp()
        self.up = up
        self.kernel = KernelClock(synchronised=False, error_ms=16_000)
        self.folder = tmp_path

    def clock(self, floor: datetime | None = None) -> Clock:
        return Clock(
            floor,
            kernel=lambda: self.kernel,
            wall=lambda: self.seconds,
            boottime=lambda: self.up,
            timesync_mark=self.folder / "synchronized",
            rtc_folder=self.folder,
            boot_id="8086210d91924735",
        )

    def pass_seconds(self, seconds: float) -> None:
        self.seconds += seconds
        self.up += seconds

    def hear_time_server(self, true_time: datetime, error_ms: int = 12) -> None:
        self.seconds = true_time.timestamp()
        self.kernel = KernelClock(synchronised=True, error_ms=error_ms)


def test_an_event_is_stamped_with_time_quality_and_seconds_since_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SCHOOL_DAY)
    machine.hear_time_server(SCHOOL_DAY)
    stamp = machine.clock().stamp()
    assert (stamp.at, stamp.clock, stamp.up) == ("2026-11-22T08:30:00.000Z", "ntp", 10.0)


def test_a_clock_that_starts_in_1970_never_reads_before_what_is_known_to_be_past(tmp_path: Path) -> None:
    machine = Machine(tmp_path, datetime(1970, 1, 1, tzinfo=UTC))
    clock = machine.clock(floor=SCHOOL_DAY)
    machine.pass_seconds(90)
    assert clock.quality == "free"
    assert clock.now() == datetime(2026, 11, 22, 8, 31, 30, tzinfo=UTC)
    assert clock.stamp().at == "2026-11-22T08:31:30.000Z"
    clock.raise_floor(datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    assert clock.now() == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    clock.raise_floor(SCHOOL_DAY)
    assert clock.now() == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_time_server_is_believed_even_when_it_names_an_earlier_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SCHOOL_DAY)
    clock = machine.clock(floor=datetime(2030, 1, 1, tzinfo=UTC))
    machine.pass_seconds(2)
    machine.hear_time_server(SCHOOL_DAY)
    assert clock.quality == "free" or clock.now() == SCHOOL_DAY
    machine.pass_seconds(2)
    assert clock.quality == "ntp"
    assert clock.now().year == 2026


def test_one_record_when_a_boot_starts_unset_and_one_when_it_is_first_set(tmp_path: Path) -> None:
    machine = Machine(tmp_path, datetime(1970, 1, 1, tzinfo=UTC))
    clock = machine.clock()
    assert clock.due_record() == {
        "boot_id": "8086210d91924735",
        "up": 10.0,
        "wall": "1970-01-01T00:00:00.000Z",
        "synchronised": False,
    }
    machine.pass_seconds(50)
    assert clock.due_record() is None
    machine.hear_time_server(SCHOOL_DAY)
    assert clock.due_record() == {
        "boot_id": "8086210d91924735",
        "up": 60.0,
        "wall": "2026-11-22T08:30:00.000Z",
        "synchronised": True,
        "error_ms": 12,
    }
    for _ in range(100):
        machine.pass_seconds(30)
        machine.seconds += 0.004  # NTP slews
        assert clock.due_record() is None


def test_a_jump_of_a_set_clock_is_recorded_with_its_size(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SCHOOL_DAY)
    machine.hear_time_server(SCHOOL_DAY)
    clock = machine.clock()
    assert clock.due_record() is not None
    machine.pass_seconds(10)
    machine.seconds -= 3600
    record = clock.due_record()
    assert record is not None
    assert record["stepped_ms"] == -3_600_000
    assert clock.due_record() is None


def test_systemd_timesyncd_marks_count_as_set(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SCHOOL_DAY)
    (tmp_path / "synchronized").touch()
    assert machine.clock().quality == "ntp"


@pytest.mark.parametrize(("hctosys", "wall", "quality"), [
    ("1", SCHOOL_DAY, "rtc"),
    ("0", SCHOOL_DAY, "free"),
    ("1", datetime(2000, 1, 1, tzinfo=UTC), "free"),
])  # fmt: skip
def test_a_clock_chip_counts_when_it_set_the_time_and_its_battery_is_not_flat(
    tmp_path: Path, hctosys: str, wall: datetime, quality: str
) -> None:
    (tmp_path / "rtc0").mkdir()
    (tmp_path / "rtc0" / "hctosys").write_text(f"{hctosys}\n")
    machine = Machine(tmp_path, wall)
    assert machine.clock(floor=datetime(2026, 9, 1, tzinfo=UTC)).quality == quality


def test_the_kernel_of_this_machine_answers() -> None:
    kernel = read_kernel_clock()
    assert isinstance(kernel.synchronised, bool)
    assert kernel.error_ms > 0
    stamp = Clock().stamp()
    assert abs(datetime.fromisoformat(stamp.at).timestamp() - datetime.now(UTC).timestamp()) < 5
    assert stamp.up > 0


@pytest.mark.parametrize(
    ("service", "answer", "judged"),
    [
        # state, status and maxerror of adjtimex(2); 0x40 is STA_UNSYNC, 0x2001 STA_PLL and STA_NANO.
        ("systemd-timesyncd, chrony with rtcsync", (0, 0x2001, 12_345), KernelClock(True, 12)),
        ("chrony without rtcsync", (5, 0x40, 8_200), KernelClock(True, 8)),
        ("chrony without rtcsync that lost its servers", (5, 0x40, 16_000_000), KernelClock(False, 16_000)),
        ("nobody", (5, 0x40, 16_000_000), KernelClock(False, 16_000)),
        ("a sandbox that refuses the call", (-1, 0, 0), KernelClock(False, 1000)),
    ],
)
def test_the_kernel_is_believed_whichever_time_service_keeps_it(
    service: str, answer: tuple[int, int, int], judged: KernelClock
) -> None:
    assert judge_kernel_clock(*answer) == judged, service
