"""Disks that are full, and disks that say no."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tinydb import TinyDB

from gateway.errors import JournalFull
from gateway.journal.face import JournalReader
from gateway.journal.journal import JournalStats
from gateway.journal.verify import verify
from tests.journal.crash_states import crashes, trace
from tests.journal.journals import read_back, small, tap, until_full
from tests.journal.test_crash_states import lay_out, lost_after_crash

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")

_APPEND = """
import os, sys
from pathlib import Path
from gateway.errors import JournalFull, JournalWriteFailed
from gateway.journal import segments
from tests.journal.journals import small, tap
if "same-descriptor" in sys.argv:
    def sync(writer):
        try:
            os.fdatasync(writer._descriptor)
        except OSError:
            os.fdatasync(writer._descriptor)
        writer.end = writer._written
    segments.SegmentWriter.sync = sync
journal = small(Path(sys.argv[1]))
for number in range(60):
    try:
        seq = journal.append(tap(number)).wait(20)
        print(f"kept {seq} {seq} {number}", flush=True)
    except (JournalFull, JournalWriteFailed) as error:
        print(f"refused {type(error).__name__}", flush=True)
stats = journal.stats()
print(f"state {stats.state} {stats.refused}", flush=True)
journal.close()
"""

_FILL_STOCK = """
import sys
from tinydb import TinyDB
db = TinyDB(sys.argv[1])
while True:
    print(db.insert({"text": "x" * 200}), flush=True)
"""


def append_with(folder: Path, inject: str) -> list[list[str]]:
    """Append 60 events while strace makes some calls fail, and return what the process said."""
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={inject}", sys.executable, "-c", _APPEND, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return [line.split() for line in done.stdout.splitlines()]


@needs_strace
@pytest.mark.parametrize("inject", [
    "fdatasync:error=EIO:when=9",
    "fdatasync:error=EIO:when=9..30+7",
    "pwrite64:error=EIO:when=12",
    "pwrite64:error=ENOSPC:when=12",
    "pwrite64:retval=100:when=12",
])  # fmt: skip
def test_a_failed_write_or_sync_is_made_good_in_a_new_segment(tmp_path: Path, inject: str) -> None:
    said = append_with(tmp_path, inject)
    assert [int(words[1]) for words in said if words[0] == "kept"] == list(range(1, 61))
    assert said[-1] == ["state", "ok", "0"]
    assert len(read_back(tmp_path)) == 60
    assert [finding for finding in verify(tmp_path).findings if finding.kind != "torn"] == []


@needs_strace
@pytest.mark.parametrize(("inject", "error"), [
    ("fdatasync:error=EIO:when=20+", "JournalWriteFailed"),
    ("pwrite64:error=ENOSPC:when=20+", "JournalFull"),
    ("fdatasync:error=EDQUOT:when=20+", "JournalFull"),
])  # fmt: skip
def test_a_disk_that_goes_on_failing_is_an_alarm_and_what_was_kept_stays(
    tmp_path: Path, inject: str, error: str
) -> None:
    said = append_with(tmp_path, inject)
    kept = [int(words[1]) for words in said if words[0] == "kept"]
    assert 0 < len(kept) < 60
    assert {words[1] for words in said if words[0] == "refused"} == {error}
    assert said[-1] == ["state", "alarm", str(60 - len(kept))]
    assert set(kept) <= set(read_back(tmp_path))
    journal = small(tmp_path)
    assert journal.append(tap()).wait(10) > max(kept)
    journal.close()


def lost_after_eio(tmp_path: Path, *arguments: str) -> int:
    shutil.rmtree(tmp_path / "journal", ignore_errors=True)
    inject = "fdatasync:error=EIO:when=12"
    calls = trace(_APPEND, tmp_path / "journal", tmp_path / "log", *arguments, inject=inject)
    lost = 0
    for _, files, said in crashes(calls, tmp_path / "journal", 200, 5):
        lay_out(files, tmp_path / "crashed")
        lost += lost_after_crash(tmp_path / "crashed", [line for line in said if line.startswith("kept")]) is not None
    return lost


@needs_strace
def test_a_second_sync_on_the_same_descriptor_is_never_believed(tmp_path: Path) -> None:
    assert lost_after_eio(tmp_path, "same-descriptor") > 20
    assert lost_after_eio(tmp_path) == 0


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)], check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


@needs_root
def test_stock_tinydb_loses_everything_to_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 128) as disk:
        command = [sys.executable, "-c", _FILL_STOCK, str(disk / "stock.json")]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert "No space left" in done.stderr
        assert int(done.stdout.split()[-1]) > 100
        with TinyDB(disk / "stock.json") as db, pytest.raises(json.JSONDecodeError):
            len(db)


@needs_root
def test_a_full_disk_is_told_one_segment_early_refuses_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 600) as disk:
        journal = small(disk / "journal", quota_bytes=64 << 20)
        (disk / "ballast").write_bytes(bytes(100 << 10))
        warned_at = 0
        while warned_at == 0:
            journal.append(tap()).wait(5)
            if journal.stats().state == "alarm":
                warned_at = journal.head
        refusal = until_full(journal)
        assert "full" in str(refusal)
        head = journal.head
        assert head > warned_at
        assert len(read_back(disk / "journal")) == head
        (disk / "ballast").unlink()
        wait_for_room(journal.stats)
        # The refused tap comes first, from memory.
        assert journal.append(tap()).wait(5) == head + 2
        journal.close()
        assert JournalReader.open(disk / "journal").head == head + 2
        assert verify(disk / "journal").ok


def wait_for_room(stats: Callable[[], JournalStats]) -> None:
    deadline = time.monotonic() + 10
    while stats().state != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_root
def test_a_journal_on_a_disk_full_of_other_things_opens_in_alarm_and_starts_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 600) as disk:
        with contextlib.suppress(OSError):
            (disk / "ballast").write_bytes(bytes(1 << 20))
        journal = small(disk / "journal")
        with pytest.raises(JournalFull):
            journal.append(tap()).wait(5)
        assert journal.stats().state == "alarm"
        (disk / "ballast").unlink()
        wait_for_room(journal.stats)
        assert journal.append(tap()).wait(5) == 2
        journal.close()
