"""`tapgate doctor` beside the installed unit: it says what the daemon will see, and its advice mends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.systemd import booted
from tests.systemd.booted import CONFIG, DOOR, FAKES, boot, drop_in, install

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(bool(booted.missing()), reason=f"a booted systemd {booted.missing()}"),
    pytest.mark.xdist_group("booted"),
]

# A folder that lies on a disk, as the state folder of a gateway does.
DISK = """
mkdir /run/lab/state; chown tapgate:tapgate /run/lab/state; chmod 700 /run/lab/state
mount --bind /run/lab/state /var/lib/tapgate
"""
DOCTOR = "/usr/bin/tapgate doctor"


def _rows(line: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(line)["checks"]}


def test_before_the_first_start_nothing_is_a_failure_and_nothing_is_made(tmp_path: Path) -> None:
    script = f"""
before=$(ls -lR /var/lib/tapgate /etc/tapgate /run/tapgate* 2>/dev/null)
{DOCTOR} --json
[ "$before" = "$(ls -lR /var/lib/tapgate /etc/tapgate /run/tapgate* 2>/dev/null)" ] && echo unchanged
"""
    config = CONFIG.replace('"serial-line"', '"rc522"').replace("/dev/ttyUSB0", "/dev/null")
    line, unchanged = boot(tmp_path, install(tmp_path, config) + DISK + script).splitlines()
    rows = _rows(line)
    assert [row for row in rows.values() if row["state"] == "fail"] == []
    assert rows["looked"]["evidence"].startswith("as tapgate.service does")
    assert {name for name, row in rows.items() if row["state"] == "note"} == {"journal", "roster"}
    assert rows["site key"]["evidence"] == "the user tapgate can read it, and others cannot"
    assert unchanged == "unchanged"


# As the README has it: `openssl rand -hex 32 >site.key` as root, and the modes that people try.
@pytest.mark.parametrize("mode", ["644", "600", "640"])
def test_its_advice_for_the_site_key_leaves_it_readable_for_the_daemon_and_closed_to_others(
    tmp_path: Path, mode: str
) -> None:
    script = f"""
rm /etc/tapgate/site.key; printf '%064d\\n' 0 >/etc/tapgate/site.key; chmod {mode} /etc/tapgate/site.key
{DOCTOR} >/run/lab/doctor; echo $?
fix=$(grep -A1 'FAIL  site key' /run/lab/doctor | sed -n 's/.*-> //p'); echo "$fix"
eval "$fix"
{DOCTOR} | grep 'site key'
stat -c '%A %U:%G' /etc/tapgate/site.key
systemctl start tapgate; systemctl stop tapgate
grep -c 'site key' /run/lab/tapgate.log
"""
    assert boot(tmp_path, install(tmp_path) + script).splitlines() == [
        "3",
        "chgrp tapgate /etc/tapgate/site.key && chmod 640 /etc/tapgate/site.key",
        "ok    site key               the user tapgate can read it, and others cannot",
        "-rw-r----- root:tapgate",
        "0",
    ]


def test_a_file_that_only_root_may_read_is_named_with_the_command_that_opens_it(tmp_path: Path) -> None:
    hub = '[hub]\nurl = "mqtts://127.0.0.1:9"\nca_file = "ca.crt"\n'
    script = f"""
install -m 600 /dev/stdin /etc/tapgate/ca.crt <<<x
chmod 600 /etc/tapgate/gateway.toml; chgrp root /etc/tapgate/gateway.toml
{DOCTOR} --json
chgrp tapgate /etc/tapgate/gateway.toml && chmod 640 /etc/tapgate/gateway.toml
{DOCTOR} --json
"""
    closed, opened = boot(tmp_path, install(tmp_path, CONFIG + hub) + script).splitlines()
    assert "Permission denied" in _rows(closed)["configuration"]["evidence"]
    rows = json.loads(opened)["checks"]
    [row] = [row for row in rows if "ca_file" in row["evidence"]]
    assert row["state"] == "fail"
    assert "/etc/tapgate/ca.crt cannot be read (Permission denied)" in row["evidence"]


def test_what_it_says_of_gpio_clock_and_network_is_what_the_unit_sees(tmp_path: Path) -> None:
    config = CONFIG + DOOR.format(lock="fail-secure", egress="mechanical")
    config += '[hub]\nurl = "mqtt://203.0.113.7:1883"\n'
    (tmp_path / "cpuinfo").write_text("Hardware : BCM2711\nRevision : c03115\n", encoding="ascii")
    pins = f"Environment=PYTHONPATH={FAKES}/pins"
    script = f"""
{DOCTOR} --json
{drop_in("ProtectClock=yes")}
{DOCTOR} --json
{drop_in(pins)}
{DOCTOR} --json
"""
    plain, no_clock, with_pins = map(_rows, boot(tmp_path, install(tmp_path, config) + script).splitlines())
    assert plain["gpio"]["state"] == "fail"
    # Outside of the unit the same address refuses at once, for nobody listens there.
    assert "nothing answers at 203.0.113.7:1883" in plain["hub link"]["evidence"]
    assert "tapgate.slice.d/hub.conf" in plain["hub link"]["fix"]
    assert "refuse" in no_clock["clock"]["evidence"]
    assert "refuse" not in plain["clock"]["evidence"]
    assert with_pins["gpio"]["evidence"] == "1 pins are used, driven by RPi.GPIO"
