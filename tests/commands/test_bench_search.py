from __future__ import annotations

from gateway.bench.search import TYPED, run_bench


def test_the_bench_measures_both_searches_in_one_run() -> None:
    result = run_bench(people=170)
    ours = result["ours"]
    (peer,) = result["peers"].values()
    assert ours["people"] == 170
    assert all(ours[f"p95, {kind}"] > 0 for kind in TYPED)
    assert 0 < ours["p50"] <= ours["p95"] <= ours["max"]
    assert 0 < peer["p50"] <= peer["p95"] <= peer["max"]
    assert result["ratio"] > 0
