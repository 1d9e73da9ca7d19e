"""`tapgate readers trace` and `replay` with a device at a real pseudo terminal."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gateway import cli
from gateway.commands.readers import _ports
from gateway.readers import serial_base
from gateway.simulator.line_readers import PtyEnd
from gateway.simulator.polled_readers import Pn532Device
from tests.readers.contract import FOUR, SEVEN

CONFIG = """
[gateway]
id = "gw"
site = "st-marys"
state_dir = "state"
site_key_file = "site.key"

[[reader]]
id = "desk"
driver = "{driver}"
port = "{port}"
point = "lane"

[[point]]
id = "lane"
kind = "lane"
"""


def configure(folder: Path, driver: str, port: str) -> Path:
    (folder / "site.key").write_text("5A" * 32)
    path = folder / "gateway.toml"
    path.write_text(CONFIG.format(driver=driver, port=port))
    return path


def test_a_fault_becomes_a_file_without_card_numbers_that_plays_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The device is a thread beside its driver: on a busy machine it answers late, and is not gone.
    monkeypatch.setattr(serial_base, "SILENCES", 12)
    device = Pn532Device()
    config, out = configure(tmp_path, "pn532", device.path), tmp_path / "desk.trace"

    def hand() -> None:
        for uid in (FOUR, SEVEN):
            time.sleep(0.4)
            device.enter(uid)
            time.sleep(0.3)
            device.leave()
        time.sleep(0.5)
        device.unplug()

    thread = threading.Thread(target=hand)
    thread.start()
    words = ["readers", "trace", "desk", "--config", str(config), "--seconds", "20", "--out", str(out)]
    assert cli.main(words) == 0
    thread.join()
    device.close()
    said = capsys.readouterr().out
    assert "the reader is gone" in said
    assert "2 cards, card numbers replaced" in said
    text = out.read_text().lower()
    for uid in (FOUR, SEVEN):
        assert uid.hex() not in text
        assert uid[1:4].hex() not in text
    assert cli.main(["readers", "replay", str(out)]) == 0
    replayed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in replayed[:4]] == ["card read", "card gone"] * 2
    assert "is gone" in replayed[4]


def test_a_driver_that_cannot_be_recorded_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(tmp_path, "mfrc522", "/dev/spidev0.0")
    words = ["readers", "trace", "desk", "--config", str(config), "--out", str(tmp_path / "x")]
    assert cli.main(words) == 2
    assert "mfrc522 cannot be recorded" in capsys.readouterr().err


def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str, sent: bytes, times: int) -> list[str]:
    """Run `readers test` while a reader that was set up wrongly sends something at each tap."""
    device = PtyEnd()
    config = configure(tmp_path, driver, device.path)

    def hand() -> None:
        # Until the port is open nobody hears anything.
        for _ in range(times):
            time.sleep(0.3)
            device.send(sent)

    thread = threading.Thread(target=hand)
    thread.start()
    code = cli.main(["readers", "test", "desk", "--config", str(config), "--seconds", str(0.3 * times + 0.6)])
    thread.join()
    device.close()
    assert code == 1
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("driver", "sent", "words"),
    [
        ("serial-line", "F88000E69E7806FE", ["above 7F", "wrong baud", "no line end"]),
        ("serial-line", b"DEAD\x00EEF\r\n".hex(), ["parity"]),
        ("serial-line", b"DEADBEEF".hex(), ["no line end", "ends_by_silence"]),
        ("serial-line", b"1E00A9C3F7\r\n".hex(), ["card refused", "10 hex digits", "em4100"]),
        ("serial-line", "0000FF0CF4D54B01010004080411223344", ["pn532"]),
        ("stx-etx", b"DEADBEEF\r\n".hex(), ["outside of a frame", "serial-line"]),
    ],
)
def test_the_bench_tells_what_it_hears_and_what_to_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str, sent: str, words: list[str]
) -> None:
    said = bench(tmp_path, capsys, driver, bytes.fromhex(sent), 3)
    told = [line for line in said if line.startswith(("no card:", "card refused:"))]
    assert len(told) >= 2
    for word in words:
        assert word in " ".join(told)
    assert "score 100" not in " ".join(said)
    assert said[-1].startswith("score")
    assert "DEADBEEF" not in " ".join(said)
    assert "1E00A9C3F7" not in " ".join(said)


def test_two_adapters_of_one_serial_number_are_both_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ttyUSB0", "ttyUSB1", "ttyACM0"):
        (tmp_path / name).touch()
    for folder, links in {
        "by-id": {"usb-CH340-if00": "ttyUSB1", "usb-Elatec_TWN4-if00": "ttyACM0"},
        "by-path": {"pci-usb-0:1.1": "ttyUSB0", "pci-usb-0:1.2": "ttyUSB1", "pci-usb-0:1.3": "ttyACM0"},
    }.items():
        (tmp_path / folder).mkdir()
        for link, device in links.items():
            (tmp_path / folder / link).symlink_to(tmp_path / device)
    places = [f"{tmp_path}/{pattern}" for pattern in ("by-id/*", "by-path/*", "ttyUSB*", "ttyACM*")]
    monkeypatch.setattr("gateway.commands.readers._PLACES", tuple(places))
    monkeypatch.setattr("gateway.commands.readers._BY_ID", "/by-id/")
    assert [Path(port).name for port in _ports()] == ["usb-Elatec_TWN4-if00", "pci-usb-0:1.1", "pci-usb-0:1.2"]
