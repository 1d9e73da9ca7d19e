from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@needs_systemd
@pytest.mark.parametrize(
    "unit", ["tapgate.service", "tapgate-web.service", "tapgate-hub.service", "tapgate-agent.service"]
)
def test_the_exposure_of_each_unit_is_at_most_1_5(unit: str) -> None:
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNITS / unit)],
        capture_output=True,
        text=True,
        check=True,
        env={"SYSTEMD_LOG_LEVEL": "err", "PATH": "/usr/bin:/bin"},
    )
    level = re.search(r"exposure level for \S+: ([0-9.]+)", result.stdout)
    assert level is not None
    assert float(level[1]) <= 1.5


@needs_systemd
def test_the_harness_sees_a_bare_unit_as_exposed(tmp_path: Path) -> None:
    unit = tmp_path / "bare.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)], capture_output=True, text=True, check=False
    )
    level = re.search(r"exposure level for \S+: ([0-9.]+)", result.stdout)
    assert level is not None
    assert float(level[1]) > 9


@pytest.mark.parametrize(
    "unit", ["tapgate.service", "tapgate-web.service", "tapgate-hub.service", "tapgate-agent.service"]
)
def test_each_unit_is_a_notify_service_with_a_watchdog_that_restarts(unit: str) -> None:
    text = (UNITS / unit).read_text(encoding="utf-8")
    for line in ("Type=notify", "Restart=always", "NoNewPrivileges=yes"):
        assert line in text.splitlines()
    assert re.search(r"^WatchdogSec=\d+s$", text, re.MULTILINE)


def test_the_machine_watchdog_stays_within_what_a_pi_can_count() -> None:
    text = (UNITS / "10-tapgate-watchdog.conf").read_text(encoding="utf-8")
    seconds = re.search(r"RuntimeWatchdogSec=(\d+)s", text)
    assert seconds is not None
    assert int(seconds[1]) <= 15
