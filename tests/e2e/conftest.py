"""What the tests under real daemons share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import needs_mosquitto
from tests.e2e.daemons import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    needs_mosquitto()
    made = House(tmp_path)
    yield made
    made.close()
