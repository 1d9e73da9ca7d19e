"""Power cuts rebuilt from a system-call trace. TAPGATE_FAULTS scales the number of states."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tinydb import TinyDB

from gateway.access.event import decode_event
from tests.journal.crash_states import crashes, trace
from tests.journal.journals import small, tap

STATES = int(os.environ.get("TAPGATE_FAULTS", "1000"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

# A day of small and large groups, a named table, watermarks that let segments go, one restart.
_OURS = """
import os, random, sys
from pathlib import Path
from tests.journal.journals import small, tap
if len(sys.argv) > 2 and sys.argv[2] == "no-sync":
    os.fdatasync = lambda descriptor: None
roll = random.Random(7)
number = 0
for boot in range(2):
    journal = small(Path(sys.argv[1]))
    table = journal.tinydb.table("settings")
    while number < (boot + 1) * 350:
        tickets = [journal.append(tap(number + place)) for place in range(roll.randint(1, 8))]
        seqs = [ticket.wait(30) for ticket in tickets]
        print(f"kept {seqs[0]} {seqs[-1]} {number}", flush=True)
        number += len(seqs)
        if roll.random() < 0.1:
            print(f"table {table.insert({'number': number})} {number}", flush=True)
        if roll.random() < 0.1:
            print(f"acked {seqs[-1] - 20}", flush=True)
            journal.acknowledge(seqs[-1] - 20)
    journal.close()
"""

_STOCK = """
import sys
from pathlib import Path
from tinydb import TinyDB
folder = Path(sys.argv[1])
with TinyDB(folder / "stock.json") as db:
    for number in range(60):
        print(f"kept {db.insert({'number': number, 'text': 'x' * 100})}", flush=True)
        if number % 5 == 4:
            db.remove(doc_ids=[number - 2])
            print(f"removed {number - 2}", flush=True)
"""


def lay_out(files: dict[str, bytes], target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, data in files.items():
        (target / name).write_bytes(data)


def lost_after_crash(target: Path, said: list[str]) -> str | None:
    """Open what the crash left, and say what is missing of what was confirmed; None when all is well."""
    kept: dict[int, int] = {}
    documents: dict[int, int] = {}
    acked = 0
    for line in said:
        word, *numbers = line.split()
        values = [int(number) for number in numbers]
        if word == "kept":
            kept.update({seq: values[2] + seq - values[0] for seq in range(values[0], values[1] + 1)})
        elif word == "table":
            documents[values[0]] = values[1]
        else:
            acked = max(acked, values[0])
    journal = small(target)
    try:
        stored = dict(journal.stored())
        for seq, number in kept.items():
            if seq > acked and (seq not in stored or f"{number:032x}".encode() not in stored[seq]):
                return f"event {seq}"
        table = journal.tinydb.table("settings")
        for doc_id, number in documents.items():
            if (table.get(doc_id=doc_id) or {}).get("number") != number:
                return f"document {doc_id}"
        seq = journal.append(tap(10**6, boot=journal.boot)).wait(10)
        if seq <= max(kept, default=0):
            return f"number {seq} was given twice"
        follows = [decode_event(raw).seq for _, raw in journal.after(journal.acked, 10**6)]
        if follows != list(range(journal.acked + 1, seq + 1)):
            return "a hole in the numbers"
    finally:
        journal.close()
    return None


def test_stock_tinydb_is_unreadable_or_wrong_after_some_power_cuts(tmp_path: Path) -> None:
    folder = tmp_path / "stock"
    folder.mkdir()
    calls = trace(_STOCK, folder, tmp_path / "log")
    broken = 0
    for _, files, said in crashes(calls, folder, 300, 1):
        lay_out(files, tmp_path / "crashed")
        confirmed = {int(line.split()[1]) for line in said if line.startswith("kept")}
        gone = {int(line.split()[1]) for line in said if line.startswith("removed")}
        try:
            with TinyDB(tmp_path / "crashed" / "stock.json") as db:
                there = {document.doc_id for document in db}
            broken += bool(files) and bool(confirmed - gone - there)
        except (json.JSONDecodeError, UnicodeDecodeError):
            broken += 1
    assert broken > 10


def test_the_harness_catches_a_journal_that_does_not_sync(tmp_path: Path) -> None:
    calls = trace(_OURS, tmp_path / "journal", tmp_path / "log", "no-sync")
    lost = 0
    for _, files, said in crashes(calls, tmp_path / "journal", 100, 2):
        lay_out(files, tmp_path / "crashed")
        lost += lost_after_crash(tmp_path / "crashed", said) is not None
    assert lost > 50


@pytest.mark.timeout(300)
def test_nothing_confirmed_is_lost_in_any_power_cut(tmp_path: Path) -> None:
    calls = trace(_OURS, tmp_path / "journal", tmp_path / "log")
    assert sum(name == "fdatasync" for name, _, _ in calls) > 100
    assert sum(name.startswith("unlink") for name, _, _ in calls) >= 2
    for place, files, said in crashes(calls, tmp_path / "journal", STATES, 3):
        lay_out(files, tmp_path / "crashed")
        assert lost_after_crash(tmp_path / "crashed", said) is None, f"crash after call {place}"
