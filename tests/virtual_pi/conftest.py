from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.simulator.virtual_pi import VirtualPi, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if "tests/virtual_pi" in str(item.path):
            item.add_marker(pytest.mark.virtual_pi)
            if reason:
                item.add_marker(pytest.mark.skip(reason=f"the virtual Pi {reason}"))


@pytest.fixture
def pi() -> Iterator[VirtualPi]:
    """A Pi with one RC522 on each chip select of SPI 0, at this machine's own speed."""
    with VirtualPi(("spidev0.0", "spidev0.1"), ioctl_us=0, transfer_us=0) as made:
        yield made
