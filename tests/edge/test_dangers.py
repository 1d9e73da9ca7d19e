from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main

HEAD = '[gateway]\nid = "gw"\nsite = "st-marys"\nsite_key_file = "site.key"\nstate_dir = "state"\n'
READER = '[[reader]]\nid = "{0}"\ndriver = "serial-line"\nport = "{1}"\npoint = "{2}"\n'
LANE = '[[point]]\nid = "lane"\nkind = "lane"\n'
CASES = {
    HEAD + '[hub]\nurl = "mqtt://10.0.0.4:1883"\n': ("gateway.toml:7: hub.url", "is not encrypted"),
    HEAD + '[hub]\nurl = "mqtt://127.0.0.1:1883,hub.example:1883"\n': ("gateway.toml:7: hub.url", "is not encrypted"),
    HEAD + '[web]\nhost = "0.0.0.0"\n': ("gateway.toml:7: web.host", "without sign-in"),
    HEAD + LANE + "strike_gpio = 17\n": ("gateway.toml:9: point.0.strike_gpio", "does nothing at a lane"),
    HEAD + LANE + "rex_gpio = 17\n": ("gateway.toml:9: point.0.rex_gpio", "does nothing at a lane"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site.key").write_text("5a" * 32, encoding="ascii")
    return tmp_path


@pytest.mark.parametrize("text", CASES)
def test_a_dangerous_setting_is_a_warning_with_its_line(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gateway.toml").write_text(text, encoding="utf-8")
    assert main(["check-config", str(folder / "gateway.toml")]) == 1
    shown = capsys.readouterr().out
    for words in CASES[text]:
        assert words in shown


def test_one_port_by_two_names_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device, by_id = folder / "ttyUSB0", folder / "usb-reader"
    device.touch()
    by_id.symlink_to(device)
    points = LANE + LANE.replace('"lane"', '"lane-2"', 1)
    readers = READER.format("a", device, "lane") + READER.format("b", by_id, "lane-2")
    (folder / "gateway.toml").write_text(HEAD + readers + points, encoding="utf-8")
    assert main(["check-config", str(folder / "gateway.toml")]) == 1
    assert "reader.1.port: is the same device" in capsys.readouterr().out


def test_ordinary_settings_have_no_warning(folder: Path) -> None:
    text = HEAD + '[hub]\nurl = "mqtts://hub.example:8883"\n[web]\n' + LANE + READER.format("a", "/dev/ttyUSB0", "lane")
    (folder / "gateway.toml").write_text(text, encoding="utf-8")
    assert main(["check-config", str(folder / "gateway.toml")]) == 0
