"""The reader bench runs the peers beside us and gives the agreed form; its figures are judged by people, not here."""

from __future__ import annotations

import json

import pytest

from gateway.bench import reader as bench_reader


def test_ours_and_the_real_libraries_are_measured_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_reader, "_idle_cpu", lambda: 0.0)
    result = json.loads(json.dumps(bench_reader.run_bench(2)))
    assert set(result) == {"name", "unit", "ours", "peers", "ratio", "machine"}
    assert set(result["peers"]) == {"mfrc522 0.0.7", "pi-rc522 2.3.0"}
    assert result["ours"]["empty_poll_transfers"] == pytest.approx(7, abs=0.5)
    assert result["peers"]["mfrc522 0.0.7"]["empty_poll_transfers"] == 2013
    assert result["ours"]["dwell_100_ms"]["missed"] == 0
    assert result["ours"]["all_dwells"]["taps"] == 6
    for row in (
        "one_on_one_bus",
        "two_on_one_bus",
        "two_on_one_bus_polled",
        "four_on_one_bus",
        "four_on_one_bus_polled",
        "two_in_an_antenna_group",
        "four_in_an_antenna_group",
        "sector_by_time",
        "file_by_time",
        "file_by_irq",
    ):
        assert result["ours"][row]["missed"] == 0


def test_without_a_compiler_our_driver_is_measured_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_reader, "missing", lambda: "needs gcc")
    result = bench_reader.run_bench(1)
    assert result["peers"] == {}
    assert result["ours"]["dwell_300_ms"]["missed"] == 0
    assert "needs gcc" in result["machine"]
