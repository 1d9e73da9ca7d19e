"""What every test shares: a site key, and no socket that leaves this machine."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytest_plugins = ["tests.brokers", "tests.chromium"]

SITE_KEY = bytes(range(32))
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture
def site_key() -> bytes:
    return SITE_KEY


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and not str(host).startswith(_LOCAL):
            pytest.fail(f"a test tried to reach {host}, only loopback is allowed")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
