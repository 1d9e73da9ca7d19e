"""Fresh Debian machines, booted by systemd-nspawn on a private network that has nothing but loopback.

Machines of one network share it, as if each service stood at an address of its own: hub and gateway meet on 127.0.0.1.
`apt` and `pip` reach their registries by a proxy; nothing else leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CACHE = Path("/var/cache/tapgate-tests")
MIRROR = "http://deb.debian.org/debian"
# What a Debian without a desktop has, as far as the installation leans on it.
BASE = "systemd,systemd-sysv,dbus,udev,ca-certificates,iproute2,procps,python3,sudo"
PROXY_PORT = 3128
BOOT_SECONDS = 60.0
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def why_not() -> str | None:
    """Return why no machine can be booted here, None when it can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("systemd-nspawn", "mmdebstrap", "ip", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def base_image(release: str) -> Path:
    """Make the archive of a fresh Debian once; it is kept for the next run."""
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / f"{release}.tar"
    if not archive.exists():
        fresh = CACHE / f"{release}.new.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE}", release, str(fresh), MIRROR]
        subprocess.run(command, check=True, capture_output=True, timeout=900)
        fresh.rename(archive)
    return archive


class Network:
    """A network namespace with loopback, and the way to the registries."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        program = str(Path(__file__).with_name("registry_proxy.py"))
        command = [sys.executable, program, name, str(PROXY_PORT)]
        self._proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout is not None
        assert self._proxy.stdout.readline() == "ready\n"

    def close(self) -> None:
        self._proxy.terminate()
        self._proxy.wait(10)
        assert self._proxy.stdout is not None
        self._proxy.stdout.close()
        subprocess.run(["ip", "netns", "del", self.name], check=True)


class Machine:
    """One booted machine; `run` gives it a command as an administrator would."""

    def __init__(self, root: Path, release: str, network: Network) -> None:
        self.root, self._network = root, network
        root.mkdir(parents=True)
        unpack = ["tar", "-C", str(root), "--exclude=./dev/*", "-xf", str(base_image(release))]
        subprocess.run(unpack, check=True, timeout=120)
        (root / "etc" / "hostname").write_text(f"{root.name}\n")
        self._reach_registries()
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def _reach_registries(self) -> None:
        proxy = f"http://127.0.0.1:{PROXY_PORT}"
        (self.root / "etc" / "apt" / "apt.conf.d" / "90proxy").write_text(f'Acquire::http::Proxy "{proxy}";\n')
        # This machine's certificates may name an authority of its own network.
        shutil.copy(_CERTIFICATES, self.root / "etc" / "ssl" / "certs" / "ca-certificates.crt")
        (self.root / "etc" / "pip.conf").write_text(f"[global]\nproxy = {proxy}\ncert = {_CERTIFICATES}\n")
        for name in ("apt", "pip"):
            (CACHE / name / self.release_folder).mkdir(parents=True, exist_ok=True)

    @property
    def release_folder(self) -> str:
        text = (self.root / "etc" / "os-release").read_text()
        return next(line.partition("=")[2].strip() for line in text.splitlines() if line.startswith("VERSION_CODENAME"))

    def boot(self) -> None:
        binds = [
            f"--bind={CACHE / 'apt' / self.release_folder}:/var/cache/apt/archives",
            f"--bind={CACHE / 'pip' / self.release_folder}:/root/.cache/pip",
        ]
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe", "--boot"]
        command += [f"--directory={self.root}", f"--machine={self.root.name}", *binds]
        # A machine lets its kernel clock be read; a container of systemd does not unless it is told to.
        command += [f"--network-namespace-path={self._network.path}", "--system-call-filter=adjtimex clock_adjtime"]
        log = self.root.with_suffix(".console")
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "UNIFIED_CGROUP_HIERARCHY": "1", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the machine does not boot: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in {"running", "degraded"}

    def _inside(self, *words: str, directory: str = "/root") -> list[str]:
        command = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        environment |= {"LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        inside = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
        return [*command, f"--wd={self.root}{directory}", *inside, *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a program inside; it has spoken its first line when this returns."""
        process = subprocess.Popen(
            self._inside(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    def run(
        self, *words: str, check: bool = True, timeout: float = 600, directory: str = "/root"
    ) -> subprocess.CompletedProcess[str]:
        command = self._inside(*words, directory=directory)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def journal(self, unit: str, lines: int = 40) -> str:
        return self.run("journalctl", "-u", unit, "-n", str(lines), "--no-pager", check=False).stdout

    def power_off(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        # SIGRTMIN+4 asks systemd to power off; nspawn passes SIGTERM on as that.
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
            self._process.wait(10)


@contextlib.contextmanager
def network(name: str) -> Iterator[Network]:
    made = Network(name)
    try:
        yield made
    finally:
        made.close()
