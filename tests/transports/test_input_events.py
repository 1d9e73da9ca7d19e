"""Input devices: what the kernel's node looks like when it is not there or is no keyboard."""

from __future__ import annotations

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
    with pytest.raises(ReaderOffline, match="cannot be taken"):
        device.open()
    with pytest.raises(ReaderOffline, match="not open"):
        device.read(0)
