from __future__ import annotations

import pytest

from gateway.bench.revoke import run_bench

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto]


@pytest.mark.timeout(150)
def test_a_card_revoked_at_the_hub_is_soon_denied_at_a_connected_gateway() -> None:
    ours = run_bench(cards=200, revocations=3)["ours"]
    assert ours["cards"] > 150
    assert ours["revocations"] == 3
    # Far above the figure of a quiet machine, far below a roster that is fetched now and then.
    assert 0 < ours["p50"] <= ours["max"] < 10_000
