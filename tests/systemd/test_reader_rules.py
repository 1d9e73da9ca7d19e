"""The udev rules for readers, as far as text can show: ModemManager never takes bytes of a reader."""

from __future__ import annotations

import re
from pathlib import Path

RULES = Path(__file__).parents[2] / "systemd" / "60-tapgate-readers.rules"


def rules() -> list[dict[str, str]]:
    """Return the match and assignment keys of each rule."""
    lines = [line for line in RULES.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [dict(re.findall(r'([A-Z]+(?:\{[A-Za-z_]+\})?)(?:==|\+=|=)"([^"]*)"', line)) for line in lines]


def test_every_line_is_a_rule_of_keys_and_quoted_values() -> None:
    for line in RULES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r'(?:[A-Z]+(?:\{[A-Za-z_]+\})?(?:==|\+=|=)"[^"]*"(?:, |$))+', line), line


def test_modem_manager_leaves_adapters_readers_and_the_header_alone() -> None:
    ignored = [rule for rule in rules() if rule.get("ENV{ID_MM_DEVICE_IGNORE}") == "1"]
    ports = [rule for rule in ignored if rule["SUBSYSTEM"] == "tty"]
    assert all(rule["ENV{ID_MM_PORT_IGNORE}"] == "1" for rule in ports)
    drivers = {name for rule in ports for name in rule.get("DRIVERS", "").split("|")}
    assert {"ftdi_sio", "ch341-uart", "cp210x", "pl2303"} <= drivers
    assert any("09d8" in rule.get("ATTRS{idVendor}", "") for rule in ports), "a TWN4 is a serial port itself"
    assert any("ttyAMA" in rule.get("KERNEL", "") for rule in ports)


def test_modems_stay_with_modem_manager() -> None:
    named = " ".join(rule.get("DRIVERS", "") for rule in rules())
    for modem in ("option", "qcserial", "cdc_acm", "sierra"):
        assert modem not in named
    assert all(
        "DRIVERS" in rule or "ATTRS{idVendor}" in rule or "ATTR{idVendor}" in rule or "KERNEL" in rule
        for rule in rules()
        if "ENV{ID_MM_DEVICE_IGNORE}" in rule
    )


def test_they_are_read_before_the_rules_of_modem_manager() -> None:
    assert RULES.name < "77-mm"
