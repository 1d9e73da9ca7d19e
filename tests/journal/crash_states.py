"""Rebuild what a power cut could have left, from a system-call trace.

The model is harsher than ext4: of what a file got since its last sync any set of 512-byte sectors may be there, its
size may be the old one, and of what happened in a folder since its last sync any part may have happened.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512
_CALLS = (
    "openat,pwrite64,write,lseek,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,close"
)
_LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\((?P<args>.*)\) += (?P<result>-?\d+)")
_HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FD = re.compile(r"^(\d+)")


@dataclass(slots=True)
class Inode:
    """A file: what is surely on disk, and the writes and sizes since the last sync, oldest first."""

    data: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def view_size(self) -> int:
        size = len(self.data)
        for change in self.pending:
            size = change if isinstance(change, int) else max(size, change[0] + len(change[1]))
        return size

    def sync(self) -> None:
        for change in self.pending:
            self._apply(self.data, change)
        self.pending.clear()

    def after_crash(self, roll: random.Random) -> bytes:
        data = bytearray(self.data)
        for change in self.pending:
            if isinstance(change, int):
                if roll.random() < 0.5:
                    self._apply(data, change)
                continue
            offset, written = change
            end = offset + len(written)
            if end > len(data) and roll.random() < 0.3:
                end = len(data)
            while offset < end:
                stop = min(end, (offset // SECTOR_BYTES + 1) * SECTOR_BYTES)
                if roll.random() < 0.5:
                    begin = offset - change[0]
                    self._apply(data, (offset, written[begin : begin + stop - offset]))
                offset = stop
        return bytes(data)

    @staticmethod
    def _apply(data: bytearray, change: tuple[int, bytes] | int) -> None:
        if isinstance(change, int):
            if change < len(data):
                del data[change:]
            data.extend(bytes(change - len(data)))
            return
        offset, written = change
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + len(written)] = written


@dataclass(frozen=True, slots=True)
class FolderChange:
    kind: str
    name: str
    inode: Inode | None = None
    new_name: str = ""


class Disk:
    """One folder as the traced process sees it, and as a crash would leave it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._now: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._pending: list[FolderChange] = []
        self._open: dict[int, tuple[Inode | None, int]] = {}
        self.said: list[str] = []
        self._saying = ""

    def play(self, name: str, arguments: str, result: int) -> None:
        """Take in one finished call; `said` collects what was written to standard output."""
        if result < 0:
            if name in {"fsync", "fdatasync"} and (match := _FD.match(arguments)):
                # Linux marks the pages clean when it could not write them: they will never reach the disk.
                failed = self._open.get(int(match[1]), (None, 0))[0]
                if failed is not None:
                    failed.pending.clear()
            return
        texts = [bytes.fromhex(hexed.replace("\\x", "")) for hexed, _ in _HEX.findall(arguments)]
        descriptor = int(match[1]) if (match := _FD.match(arguments)) else -1
        inode, position = self._open.get(descriptor, (None, 0))
        if name == "openat":
            self._opened(os.fsdecode(texts[0]), arguments, result)
        elif name.startswith("rename"):
            self._rename(*(self._name(os.fsdecode(text)) for text in texts[:2]))
        elif name.startswith("unlink"):
            self._unlink(self._name(os.fsdecode(texts[0])))
        elif name == "close":
            self._open.pop(descriptor, None)
        elif name == "write" and descriptor == 1:
            *lines, self._saying = (self._saying + texts[0].decode()).split("\n")
            self.said += lines
        elif name in {"fsync", "fdatasync"} and descriptor in self._open:
            self._sync(inode)
        elif inode is not None:
            self._file_call(name, arguments, texts, descriptor, inode, position, result)

    def _file_call(
        self, name: str, arguments: str, texts: list[bytes], descriptor: int, inode: Inode, position: int, result: int
    ) -> None:
        numbers = [int(word) for word in re.findall(r"(?:^|, )(-?\d+)(?=,|$)", _HEX.sub('""', arguments))]
        if name == "pwrite64":
            inode.pending.append((numbers[-1], texts[0][:result]))
        elif name == "write":
            inode.pending.append((position, texts[0][:result]))
            self._open[descriptor] = inode, position + result
        elif name == "lseek":
            self._open[descriptor] = inode, result
        elif name == "ftruncate":
            inode.pending.append(numbers[-1])
        elif name == "fallocate":
            inode.pending.append(max(inode.view_size(), numbers[-2] + numbers[-1]))

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._folder)

    def _opened(self, path: str, arguments: str, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        if os.path.normpath(path) == self._folder:
            self._open[descriptor] = None, 0
            return
        name = self._name(path)
        if name.startswith("..") or "/" in name:
            return
        inode = self._now.get(name)
        if inode is None:
            if "O_CREAT" not in arguments:
                return
            inode = self._now[name] = Inode()
            self._pending.append(FolderChange("create", name, inode))
        if "O_TRUNC" in arguments:
            inode.pending.append(0)
        self._open[descriptor] = inode, 0

    def _rename(self, old: str, new: str) -> None:
        self._now[new] = self._now.pop(old)
        self._pending.append(FolderChange("rename", old, self._now[new], new))

    def _unlink(self, name: str) -> None:
        if self._now.pop(name, None):
            self._pending.append(FolderChange("unlink", name))

    def _sync(self, inode: Inode | None) -> None:
        if inode is not None:
            inode.sync()
            return
        for change in self._pending:
            self._apply(self._durable, change)
        self._pending.clear()

    @staticmethod
    def _apply(names: dict[str, Inode], change: FolderChange) -> None:
        if change.kind == "unlink":
            names.pop(change.name, None)
            return
        names.pop(change.name, None)
        assert change.inode is not None
        names[change.new_name or change.name] = change.inode

    def after_crash(self, roll: random.Random) -> dict[str, bytes]:
        names = dict(self._durable)
        for change in self._pending:
            if roll.random() < 0.5:
                self._apply(names, change)
        return {name: inode.after_crash(roll) for name, inode in names.items()}


def trace(
    script: str, folder: Path, log: Path, *arguments: str, inject: str | None = None
) -> list[tuple[str, str, int]]:
    """Run a script under strace and return its calls in the order in which they finished.

    Args:
        inject: an error to inject, as strace's `-e inject=` takes it.
    """
    command = [
        *("strace", "-f", "-xx", "-s", "400000", "-e", f"trace={_CALLS}", "-e", "signal=none", "-o", str(log)),
        *(("-e", f"inject={inject}") if inject else ()),
        *(sys.executable, "-c", script, str(folder), *arguments),
    ]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    calls: list[tuple[str, str, int]] = []
    begun: dict[str, str] = {}
    for line in log.read_text().splitlines():
        match = _LINE.match(line)
        assert match is not None
        pid, rest = match["pid"], match["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if rest.startswith("<..."):
            rest = begun.pop(pid) + rest[rest.index(" resumed>") + len(" resumed>") :]
        if call := _CALL.match(rest):
            calls.append((call["name"], call["args"], int(call["result"])))
    return calls


def crashes(
    calls: list[tuple[str, str, int]], folder: Path, count: int, seed: int
) -> Iterator[tuple[int, dict[str, bytes], list[str]]]:
    """Return crash states: the number of calls before it, the files by name, the lines the process had printed."""
    roll = random.Random(seed)
    interesting = [place for place, (name, _, _) in enumerate(calls) if name not in {"close", "lseek"}]
    moments = sorted(roll.choices(interesting, k=count))
    disk = Disk(folder)
    played = 0
    for moment in moments:
        while played <= moment:
            disk.play(*calls[played])
            played += 1
        yield played, disk.after_crash(roll), list(disk.said)
