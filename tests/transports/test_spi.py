"""SPI messages as the kernel will see them; the kernel itself stands in tests/virtual_pi."""

from __future__ import annotations

import struct

import pytest

from gateway.errors import ReaderOffline
from gateway.transports.memory import MemorySpi
from gateway.transports.spi import SpiDevice, SpiMessage, Transfer, spi_ioc_message

_ENTRY = struct.Struct("=QQIIHBBBBBB")


def test_request_numbers_are_those_of_the_kernel_header() -> None:
    # _IOW('k', 0, char[32 * n])
    assert spi_ioc_message(1) == 0x40206B00
    assert spi_ioc_message(7) == 0x40E06B00


def test_a_message_packs_one_entry_a_transfer_and_releases_the_chip_between_them() -> None:
    message = SpiMessage([Transfer(b"\x02\x00"), Transfer(b"\x1a\x87", 420), Transfer(bytes(8))])
    entries = list(_ENTRY.iter_unpack(message.packed))
    assert [entry[2] for entry in entries] == [2, 2, 8]
    assert [entry[4] for entry in entries] == [0, 420, 0]
    assert [entry[6] for entry in entries] == [1, 1, 0]
    assert entries[0][0] == message.tx[0].buffer_info()[0]
    assert entries[0][1] == message.rx[0].buffer_info()[0]


def test_a_delay_beyond_the_kernels_field_is_refused_when_prepared() -> None:
    with pytest.raises(ValueError, match="65535"):
        SpiMessage([Transfer(b"\x00", 70_000)])


def test_a_missing_device_says_what_to_check(tmp_path) -> None:
    with pytest.raises(ReaderOffline, match="dtparam=spi=on"):
        SpiDevice(str(tmp_path / "spidev0.0"), 1_000_000).open()


def test_a_device_held_by_another_program_is_told_apart_from_a_missing_one(tmp_path) -> None:
    import fcntl

    path = tmp_path / "spidev0.0"
    path.touch()
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ReaderOffline, match="in use"):
            SpiDevice(str(path), 1_000_000).open()


def test_a_file_that_is_no_spi_device_is_refused_and_closed_again(tmp_path) -> None:
    path = tmp_path / "spidev0.0"
    path.touch()
    device = SpiDevice(str(path), 1_000_000)
    with pytest.raises(ReaderOffline, match="ioctl"):
        device.open()
    with pytest.raises(ReaderOffline, match="not open"):
        device.exchange(SpiMessage([Transfer(b"\x00")]))


class _Echo:
    def transfer(self, data: bytes) -> bytes:
        return bytes(data)[::-1]


def test_the_memory_end_fills_the_same_buffers_and_waits_the_same_times() -> None:
    waited: list[float] = []
    wire = MemorySpi("memory", _Echo(), waited.append)
    message = SpiMessage([Transfer(b"\x01\x02", 500), Transfer(b"\x03\x04")])
    with pytest.raises(ReaderOffline):
        wire.exchange(message)
    wire.open()
    before = message.rx[0].buffer_info()
    wire.exchange(message)
    assert [bytes(rx) for rx in message.rx] == [b"\x02\x01", b"\x04\x03"]
    assert waited == [0.0005]
    assert message.rx[0].buffer_info() == before


def test_a_bus_error_of_the_far_end_is_a_reader_offline() -> None:
    class Broken:
        def transfer(self, data: bytes) -> bytes:
            raise OSError(5, "Input/output error")

    wire = MemorySpi("memory", Broken())
    wire.open()
    with pytest.raises(ReaderOffline, match="Input/output"):
        wire.exchange(SpiMessage([Transfer(b"\x00")]))
