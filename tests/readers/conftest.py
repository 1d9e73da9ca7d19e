"""What all tests of readers share."""

from __future__ import annotations

import pytest

from gateway.readers import serial_base


@pytest.fixture(autouse=True)
def _patient_with_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    # A device is a thread beside its driver: on a busy machine it answers late, and is not gone.
    monkeypatch.setattr(serial_base, "SILENCES", 4 * serial_base.SILENCES)
