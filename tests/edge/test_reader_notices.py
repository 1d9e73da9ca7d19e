"""What a reader tells of itself reaches the journal and the status page."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.access.event import Event, decode_event
from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.edge.snapshot import take_view
from gateway.readers.base import DRIVERS
from gateway.simulator.chips import SimulatedTransports

pytest.importorskip("osdp_sys", reason="needs the extra osdp")

from gateway.simulator.osdp_reader import OsdpDevice

PORT = "/dev/serial/by-id/usb-rs485"
CONFIG = f"""
[gateway]
id = "gw"
site = "st-marys"
state_dir = "state"
site_key_file = "site.key"

[[reader]]
id = "gate"
driver = "osdp"
port = "{PORT}"
address = 3
point = "yard"

[[point]]
id = "yard"
kind = "lane"
"""


def reader_events(gateway: Gateway) -> list[Event]:
    events = [decode_event(raw) for _, raw in gateway.journal.after(0, 1 << 20)]
    return [event for event in events if event.kind == "reader"]


def until(gateway: Gateway, state: str) -> Event:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for event in reader_events(gateway):
            if event.data["state"] == state:
                return event
        time.sleep(0.02)
    raise AssertionError(f"no reader event {state}")


def test_an_opened_case_is_an_event_and_stands_on_the_status_page_and_no_key_is_anywhere(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text("5A" * 32)
    (tmp_path / "gateway.toml").write_text(CONFIG)
    wires, device = SimulatedTransports(), OsdpDevice(3)
    wires.attach(PORT, device)
    gateway = Gateway(load_gateway(tmp_path / "gateway.toml", tuple(DRIVERS)), wires)
    gateway.start()
    try:
        until(gateway, "ready")
        device.press("48151")
        device.set_local(tampered=True)
        told = until(gateway, "tampered")
        assert (told.reader, told.data["detail"]) == ("gate", "The reader reports tampering.")
        [row] = take_view(gateway).readers
        assert (row.state, row.detail) == ("degraded", "The reader reports tampering.")
        device.set_local()
        until(gateway, "tamper_ended")
        [row] = take_view(gateway).readers
        assert row.state == "ready"
        assert gateway.readers["gate"].vitals.counters["keys"] == 5
        assert not any(b"48151" in raw for _, raw in gateway.journal.after(0, 1 << 20))
    finally:
        gateway.stop()
        wires.close()
