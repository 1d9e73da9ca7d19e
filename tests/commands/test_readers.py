"""`tapgate readers trace` and `replay` with a device at a real pseudo terminal."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gateway import cli
from gateway.simulator.asked_readers import Pn532Device
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert "2 cards, their numbers replaced" in said
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
    assert "mfrc522 is not recorded" in capsys.readouterr().err
