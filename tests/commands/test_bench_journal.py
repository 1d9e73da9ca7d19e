from __future__ import annotations

from gateway.bench.journal import run_bench


def test_the_bench_measures_both_sides_in_one_run() -> None:
    result = run_bench(waiting=2000)
    peer = result["peers"]["tinydb 4.9.0 JSONStorage"]
    assert result["ours"]["taps"] > peer["taps"] > 1
    assert peer["device_bytes_per_tap"] > result["ours"]["device_bytes_per_tap"]
    assert result["ratio"] > 1
    assert result["ours"]["open"]["ms"] > 0
