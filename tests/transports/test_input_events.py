"""Input devices: what the kernel's node looks like when it is not there or is no keyboard."""

from __future__ import annotations

import os
import threading
import time

import pytest

from gateway.errors import ReaderOffline
from gateway.transports.input_events import EVENT, EVIOCGRAB, InputDevice


def test_the_grab_request_and_the_event_layout_are_the_kernels() -> None:
    assert EVIOCGRAB == 0x40044590  # _IOW('E', 0x90, int)
    assert EVENT.size == 24


def test_a_missing_device_is_explained(tmp_path) -> None:
    with pytest.raises(ReaderOffline, match="group input"):
        InputDevice(str(tmp_path / "event0")).open()


def test_a_file_that_cannot_be_grabbed_is_given_back(tmp_path) -> None:
    path = tmp_path / "event0"
    path.touch()
    device = InputDevice(str(path))
    with pytest.raises(ReaderOffline, match="cannot be opened"):
        device.open()
    with pytest.raises(ReaderOffline, match="not open"):
        device.read(0)


def test_the_rest_of_a_line_that_is_under_way_at_the_opening_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pipe stands for the event node, which only a keyboard can be.
    far_end, near_end = os.pipe()[::-1]
    monkeypatch.setattr("gateway.transports.input_events.fcntl.ioctl", lambda *_: 0)
    device = InputDevice(f"/proc/self/fd/{near_end}")
    key = EVENT.pack(0, 0, 1, 30, 1)

    def type_on() -> None:
        for _ in range(10):
            os.write(far_end, key)
            time.sleep(0.008)

    os.write(far_end, key)
    typist = threading.Thread(target=type_on)
    typist.start()
    device.open()
    typist.join()
    assert device.read(0) == []
    os.write(far_end, key)
    assert device.read(0.1) == [(1, 30, 1)]
    device.close()
    os.close(far_end)
    os.close(near_end)
