"""The bench of the ingest commits what it publishes; it was broken once by a change that no test of a bench saw."""

from __future__ import annotations

import pytest

from gateway.bench import ingest


def test_every_event_that_the_bench_publishes_is_committed_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"_ROUNDS": 1, "_SINGLE": 200, "_PEER_SINGLE": 50, "_BACKLOG": 2_000, "_DRAIN": 20_000}
    for name, size in {**sizes, "_LIVE_TAPS_LEAST": 1, "_WAIT_SECONDS": 30.0}.items():
        monkeypatch.setattr(ingest, name, size)
    found = ingest.run_bench()
    assert found["ours"]["live events/s"] > 0
    assert found["ours"]["backlog events/s"] > 0
    assert found["peers"]["one commit a message"]["live events/s"] > 0
