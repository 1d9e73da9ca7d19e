from __future__ import annotations

import pytest

from gateway.bench import reader as bench_reader
from gateway.cli import main


def test_the_number_of_taps_reaches_the_reader_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def run_bench(taps: int = 60) -> dict[str, object]:
        asked.append(taps)
        return {"name": "reader", "unit": "ms", "ours": {}, "peers": {}, "ratio": {}, "machine": "here"}

    monkeypatch.setattr(bench_reader, "run_bench", run_bench)
    assert main(["bench", "reader", "--taps", "500"]) == 0
    assert main(["bench", "reader"]) == 0
    assert asked == [500, 60]
    assert "reader (ms) on here" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("journal", "--taps", "5"), ("reader", "--taps", "0")])
def test_taps_that_no_bench_can_hold_to_a_reader_are_a_usage_error(words: tuple[str, ...]) -> None:
    assert main(["bench", *words]) == 2
