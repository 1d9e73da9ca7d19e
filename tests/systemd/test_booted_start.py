"""The shipped unit starts without what it cannot read or write; page, log and doctor name the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.systemd import booted
from tests.systemd.booted import CONFIG, boot, drop_in, install

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(bool(booted.missing()), reason=f"a booted systemd {booted.missing()}"),
    pytest.mark.xdist_group("booted"),
]

STATUS = r"""
status() { /opt/tapgate/.venv/bin/python -c '
import json, sys, urllib.request
view = json.load(urllib.request.urlopen("http://127.0.0.1:8080/v1/status"))
print(json.dumps({key: view[key] for key in ("faults", "journal_state", "journal_detail")}))'; }
"""
WEB = "[web]\nport = 8080\n"
HUB = """
[hub]
url = "mqtts://127.0.0.1:9"
ca_file = "ca.crt"
cert_file = "gw.crt"
key_file = "gw.key"
username = "gw"
password_file = "broker.password"
"""


def test_files_that_only_root_may_read_cost_what_needs_them_and_all_are_named(tmp_path: Path) -> None:
    script = """
for name in ca.crt gw.crt gw.key broker.password; do install -m 600 /dev/null /etc/tapgate/$name; done
chmod 600 /etc/tapgate/site.key; chgrp root /etc/tapgate/site.key
install -d -m 700 /var/lib/tapgate/roster; install -m 600 /dev/null /var/lib/tapgate/gateway.key
systemctl start tapgate; systemctl show tapgate -p ActiveState --value
until_true status && status
/usr/bin/tapgate doctor --json
systemctl stop tapgate
"""
    active, page, doctor = boot(
        tmp_path, install(tmp_path, CONFIG + WEB + HUB) + "chmod 755 /run/lab\n" + STATUS + script
    ).splitlines()
    assert active == "active"
    faults = dict(json.loads(page)["faults"])
    log = (tmp_path / "tapgate.log").read_text(encoding="utf-8")
    evidence = " ".join(row["evidence"] for row in json.loads(doctor)["checks"] if row["state"] == "fail")
    for name in ("site.key", "ca.crt", "gw.crt", "gw.key", "broker.password", "gateway.key"):
        assert name in " ".join(faults.values()), name
        assert name in log, name
        assert name in evidence, name
    assert set(faults) == {"site key", "hub link", "gateway key"}


def test_a_read_only_card_is_an_alarm_and_recording_goes_on_when_it_is_writable_again(tmp_path: Path) -> None:
    script = """
# As ext4 does after an error: the file system turns read-only, its mounts do not.
mkdir /run/other; mount --bind /var/lib /run/other; mount -o remount,ro /run/other
systemctl start tapgate; systemctl show tapgate -p ActiveState --value
until_true status && status
mount -o remount,rw /run/other
writes() { status | grep -q '"journal_state": "ok"'; }
until_true writes && status
systemctl show tapgate -p NRestarts --value
systemctl stop tapgate
"""
    active, alarm, well, restarts = boot(tmp_path, install(tmp_path, CONFIG + WEB) + STATUS + script).splitlines()
    assert active == "active"
    view = json.loads(alarm)
    assert view["journal_state"] == "alarm"
    assert "file system is read-only" in view["journal_detail"]
    # Without a key that was made before, nothing is signed until the next start; all else goes on in the same process.
    (fault,) = json.loads(well)["faults"]
    assert fault[0] == "gateway key"
    assert "Read-only file system" in fault[1]
    assert restarts == "0"


def test_a_state_folder_of_another_user_costs_the_journal_only(tmp_path: Path) -> None:
    script = """
rm -rf /var/lib/tapgate; install -d -m 700 /var/lib/tapgate /var/lib/tapgate/journal
systemctl start tapgate; systemctl show tapgate -p ActiveState --value
until_true status && status
systemctl stop tapgate
"""
    lines = drop_in("StateDirectory=\nReadWritePaths=/var/lib/tapgate")
    active, page = boot(tmp_path, install(tmp_path, CONFIG + WEB) + lines + STATUS + script).splitlines()
    assert active == "active"
    assert "Permission denied" in json.loads(page)["journal_detail"]
