"""README's installation, word for word, on booted fresh Debian machines, up to a decided tap in the hub's logbook."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.systemd.machines import Machine, Network, network, why_not

ROOT = Path(__file__).parents[2]
CHECKOUT = "/root/tapgate"
BUNDLE = "st-marys-gw-front.tar"
TAP_SECONDS = 60.0
# These end with 1 where there is something to look at; nothing of that stops the installation.
_MAY_WARN = ("tapgate doctor", "tapgate check-config", "tapgate mis check", "tapgate readers list")
# A serial reader: a pty whose far end prints what it is told on its standard input. Real adapters belong to dialout.
_READER = """\
import os, pty, grp, sys, tty
far, near = pty.openpty()
tty.setraw(near)
os.makedirs("/dev/serial/by-id", exist_ok=True)
os.symlink(os.ttyname(near), "/dev/serial/by-id/usb-reader")
os.chown(os.ttyname(near), 0, grp.getgrnam("dialout").gr_gid)
os.chmod(os.ttyname(near), 0o660)
print("ready", flush=True)
for line in sys.stdin:
    os.write(far, line.strip().encode() + b"\\r")
"""

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=str(why_not()))]


def commands(heading: str) -> list[str]:
    """Return README's commands below a heading, each with its here-document."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^### {heading}\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
    assert section, f"README has no section {heading}"
    found: list[str] = []
    for block in re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL):
        lines = block.splitlines()
        while lines:
            command = [lines.pop(0)]
            if command[0].endswith("<<'END'"):
                while command[-1] != "END":
                    command.append(lines.pop(0))
            found.append("\n".join(command))
    return found


def follow(machine: Machine, heading: str) -> None:
    for command in commands(heading):
        done = machine.run("bash", "-c", command, directory=CHECKOUT, check=False)
        allowed = {0, 1} if any(word in command for word in _MAY_WARN) else {0}
        if done.returncode not in allowed:
            units = "".join(machine.journal(unit) for unit in re.findall(r"tapgate[a-z-]*$", command))
            pytest.fail(f"{command}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}\n{units}")


def copy_checkout(machine: Machine) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            target = machine.root / CHECKOUT.lstrip("/") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)


def start(root: Path, release: str, net: Network) -> Machine:
    machine = Machine(root, release, net)
    copy_checkout(machine)
    machine.boot()
    machine.run("apt-get", "update", "-qq")
    return machine


def wait_for(machine: Machine, what: str, look: str, units: tuple[str, ...]) -> str:
    """Run a shell command until it succeeds; on time-out show what the units said."""
    deadline = time.monotonic() + TAP_SECONDS
    while True:
        done = machine.run("bash", "-c", look, check=False)
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() > deadline:
            words = "\n".join(machine.journal(unit) for unit in units)
            pytest.fail(f"{what} within {TAP_SECONDS:g} s: {done.stdout}{done.stderr}\n{words}")
        time.sleep(0.5)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_readme_s_commands_lead_from_a_fresh_debian_to_a_decided_tap_in_the_logbook(
    tmp_path: Path, release: str
) -> None:
    with network(f"tapgate-{release[:4]}-{os.getpid()}") as net:
        hub = start(tmp_path / "hub", release, net)
        gateway = start(tmp_path / "gateway", release, net)
        reader: subprocess.Popen[str] | None = None
        try:
            for machine in (hub, gateway):
                names = f"127.0.0.1 localhost hub.st-marys.example {machine.root.name}\n"
                (machine.root / "etc" / "hosts").write_text(names)
            follow(hub, "The hub")
            wait_for(
                hub, "the hub is not up", "systemctl is-active mosquitto tapgate-hub", ("mosquitto", "tapgate-hub")
            )

            shutil.move(hub.root / CHECKOUT.lstrip("/") / BUNDLE, gateway.root / CHECKOUT.lstrip("/") / BUNDLE)
            reader = gateway.start("python3", "-c", _READER)
            # The kernel has no USB adapter here; the unit would let one in, and a pty stands for it.
            drop_in = gateway.root / "etc" / "systemd" / "system" / "tapgate.service.d" / "pty.conf"
            drop_in.parent.mkdir(parents=True)
            drop_in.write_text("[Service]\nDeviceAllow=char-pts rw\n")
            follow(gateway, "A gateway")
            ready = 'curl -sf http://127.0.0.1:8080/health/ready || python3 -c "import urllib.request as u;'
            ready += "print(u.urlopen('http://127.0.0.1:8080/health/ready').read())\""
            wait_for(gateway, "the gateway is not ready", ready, ("tapgate",))
            assert reader.stdin is not None
            reader.stdin.write("04A1B2C3\n")
            reader.stdin.flush()
            query = "SELECT decision, reason, person IS NOT NULL FROM event WHERE kind = 'tap'"
            look = (
                'python3 -c "import sqlite3,json;'
                "rows=sqlite3.connect('file:/var/lib/tapgate-hub/hub.db?mode=ro',uri=True)"
                f'.execute(\\"{query}\\").fetchall();print(json.dumps(rows));assert rows"'
            )
            rows = json.loads(wait_for(hub, "no tap in the logbook", look, ("tapgate-hub",)))
            assert rows == [["granted", "ok", 1]]
            # README has made an account by now, so the pages ask everybody who they are.
            made = "tapgate accounts token --scopes logbook:read > /run/token"
            page = f'[ -s /run/token ] || {made}; python3 -c "import urllib.request as u;'
            page += "q=u.Request('http://127.0.0.1:8081/v1/events');"
            page += "q.add_header('Authorization','Bearer '+open('/run/token').read().strip());"
            page += "t=u.urlopen(q).read().decode();assert 'front-door' in t and 'Byron' in t, t\""
            wait_for(hub, "the logbook does not show the tap", page, ("tapgate-hub",))
        finally:
            if reader is not None:
                reader.terminate()
                reader.communicate()
            gateway.power_off()
            hub.power_off()
