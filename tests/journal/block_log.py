"""A disk that keeps a log of its block writes and flushes, and power cuts replayed from that log.

A FUSE file system shows one image file; the kernel's loop driver sits on it and turns a flush of the disk into an
fsync of the file. What was written before the last flush is on the disk; of what came later any set of 4 KiB blocks
may be. Mounting the result lets ext4 recover as it would after a real power cut.

As a script, `block_log.py IMAGE LOG FOLDER` serves FOLDER/disk until it is unmounted.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 4096
DISK_BYTES = 24 << 20
DISK_NAME = "disk"
# offset, length; the written bytes follow. Length 0 marks a flush.
_RECORD = struct.Struct("<QI")


def why_not() -> str:
    """Say what this machine lacks for a logged disk, nothing when it has all."""
    if os.geteuid() != 0 or not _may_mount():
        return "mounting a disk needs root and CAP_SYS_ADMIN"
    if not os.access("/dev/fuse", os.W_OK):
        return "/dev/fuse is missing"
    if not os.access("/dev/loop-control", os.W_OK):
        return "the kernel has no loop devices"
    if ctypes.util.find_library("fuse") is None:
        return "libfuse2 is not installed"
    if importlib.util.find_spec("fuse") is None:
        return "fusepy is not installed"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    return ""


def _may_mount() -> bool:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapEff"], 16) >> 21 & 1)  # CAP_SYS_ADMIN, capabilities(7)


def _unmount(folder: Path) -> None:
    """Unmount, and where somebody still holds a file, let the mount go as soon as he does not."""
    for words in ([], ["--lazy"]):
        if subprocess.run(["umount", *words, str(folder)], check=False, timeout=30).returncode == 0:
            return
    raise AssertionError(f"{folder} could not be unmounted")


def make_disk(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    command = ["mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), "-J", "size=4", "-E", options, str(image)]
    subprocess.run(command, check=True, timeout=30)


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Mount an ext4 image on a loop device, which the kernel frees when it is unmounted."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", "loop", str(image), str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextlib.contextmanager
def logged(image: Path, log: Path, folder: Path) -> Iterator[Path]:
    """Serve the image as a file whose writes and flushes go to the log."""
    folder.mkdir()
    log.touch()
    server = subprocess.Popen([sys.executable, __file__, str(image), str(log), str(folder)])
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(folder):
            assert server.poll() is None, "the FUSE server ended"
            assert time.monotonic() < deadline, "the FUSE server did not mount"
            time.sleep(0.01)
        yield folder / DISK_NAME
    finally:
        if os.path.ismount(folder):
            _unmount(folder)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def record(script: str, room: Path, *arguments: str) -> list[str]:
    """Run a script on a logged disk and return its lines; it gets the disk's folder, the log and the arguments."""
    make_disk(room / "base")
    shutil.copy(room / "base", room / "live")
    with logged(room / "live", room / "log", room / "fuse") as disk, mounted(disk, room / "mnt") as folder:
        command = [sys.executable, "-c", script, str(folder), str(room / "log"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def read_log(log: Path) -> list[tuple[int, int, bytes]]:
    """Return (end in the log, offset on the disk, bytes) of each write; a flush has no bytes."""
    data = log.read_bytes()
    found: list[tuple[int, int, bytes]] = []
    place = 0
    while place < len(data):
        offset, length = _RECORD.unpack_from(data, place)
        place += _RECORD.size + length
        found.append((place, offset, data[place - length : place]))
    return found


def power_cuts(room: Path, begin: int, end: int, count: int, seed: int) -> Iterator[tuple[int, Path]]:
    """Return where in the log the power went, and the disk it left, for random places between begin and end."""
    roll = random.Random(seed)
    events = read_log(room / "log")
    chosen = [place for place, event in enumerate(events) if begin <= event[0] <= end]
    disk = bytearray((room / "base").read_bytes())
    loose: list[tuple[int, bytes]] = []
    done = 0
    for place in sorted(roll.choices(chosen, k=count)):
        for _, offset, data in events[done : place + 1]:
            if data:
                loose.append((offset, data))
                continue
            for start, written in loose:
                disk[start : start + len(written)] = written
            loose.clear()
        done = place + 1
        left = bytearray(disk)
        share = roll.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for offset, data in loose:
            for start in range(0, len(data), BLOCK_BYTES):
                part = data[start : start + BLOCK_BYTES]
                if roll.random() < share:
                    left[offset + start : offset + start + len(part)] = part
        _write_sparse(room / "crashed", left)
        yield events[place][0], room / "crashed"


def _write_sparse(path: Path, data: bytearray) -> None:
    empty = bytes(BLOCK_BYTES)
    with path.open("wb") as file:
        for start in range(0, len(data), BLOCK_BYTES):
            block = data[start : start + BLOCK_BYTES]
            if block != empty:
                file.seek(start)
                file.write(block)
        file.truncate(len(data))


def _serve(image: str, log: str, folder: str) -> None:
    import fuse  # loads libfuse2, which only this process needs

    disk = os.open(image, os.O_RDWR)
    notes = os.open(log, os.O_WRONLY | os.O_APPEND)

    class LoggedDisk(fuse.Operations):
        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": 0o040700, "st_nlink": 2}
            if path != f"/{DISK_NAME}":
                raise fuse.FuseOSError(2)
            return {"st_mode": 0o100600, "st_nlink": 1, "st_size": os.fstat(disk).st_size}

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(disk, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            os.write(notes, _RECORD.pack(offset, len(data)) + data)
            return os.pwrite(disk, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            os.write(notes, _RECORD.pack(0, 0))
            return 0

    fuse.FUSE(LoggedDisk(), folder, foreground=True, nothreads=True, big_writes=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
