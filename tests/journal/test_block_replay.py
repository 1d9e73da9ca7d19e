"""Power cuts at block level, through ext4's own recovery. TAPGATE_BLOCK_STATES sets the number of states."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from tinydb import TinyDB

from gateway.journal.face import JournalReader
from gateway.journal.verify import verify
from tests.journal.block_log import mounted, power_cuts, read_log, record, why_not
from tests.journal.test_crash_states import lost_after_crash

STATES = int(os.environ.get("TAPGATE_BLOCK_STATES", "60"))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "all is there")]

# Each line ends with the length of the block log when it was said.
_OURS = """
import hashlib, json, os, random, sys
from pathlib import Path
from tests.journal.journals import small, tap
folder, log, truth = map(Path, sys.argv[1:4])
if "no-sync" in sys.argv:
    os.fdatasync = lambda descriptor: None
def say(*words):
    print(*words, log.stat().st_size, flush=True)
known = {}
def learn(journal):
    known.update((seq, hashlib.sha256(raw).hexdigest()) for seq, raw in journal.stored())
roll = random.Random(7)
number = 0
for boot in range(2):
    journal = small(folder / "journal")
    table = journal.tinydb.table("settings")
    while number < (boot + 1) * 350:
        tickets = [journal.append(tap(number + place)) for place in range(roll.randint(1, 8))]
        seqs = [ticket.wait(30) for ticket in tickets]
        say("kept", seqs[0], seqs[-1], number)
        number += len(seqs)
        if roll.random() < 0.1:
            say("table", table.insert({"number": number}), number)
        if roll.random() < 0.1:
            learn(journal)
            say("acked", seqs[-1] - 20)
            journal.acknowledge(seqs[-1] - 20)
    learn(journal)
    journal.close()
truth.write_text(json.dumps(known))
"""

_STOCK = """
import os, sys
from tinydb import TinyDB
with TinyDB(sys.argv[1] + "/stock.json") as db:
    for number in range(100):
        print("kept", db.insert({"number": number, "text": "x" * 200}), os.stat(sys.argv[2]).st_size, flush=True)
        if number % 5 == 4:
            db.update({"text": "y" * (number * 3)}, doc_ids=[1])
"""


def log_end(line: str) -> int:
    return int(line.rsplit(maxsplit=1)[-1])


def said_before(said: list[str], place: int) -> list[str]:
    return [line for line in said if log_end(line) <= place]


def test_stock_tinydb_is_unreadable_or_wrong_after_some_power_cuts(tmp_path: Path) -> None:
    said = record(_STOCK, tmp_path)
    broken = 0
    for place, disk in power_cuts(tmp_path, log_end(said[0]), log_end(said[-1]), 60, 1):
        confirmed = {int(line.split()[1]) for line in said_before(said, place)}
        with mounted(disk, tmp_path / "mnt") as folder:
            try:
                with TinyDB(folder / "stock.json") as db:
                    broken += bool(confirmed - {document.doc_id for document in db})
            except (json.JSONDecodeError, UnicodeDecodeError):
                broken += 1
    assert broken > 5


def test_the_block_log_catches_a_journal_that_does_not_sync(tmp_path: Path) -> None:
    said = record(_OURS, tmp_path, str(tmp_path / "truth"), "no-sync")
    lost = 0
    for place, disk in power_cuts(tmp_path, log_end(said[0]), log_end(said[-1]), 10, 2):
        with mounted(disk, tmp_path / "mnt") as folder:
            lost += lost_after_crash(folder / "journal", said_before(said, place)) is not None
    assert lost >= 5


@pytest.mark.timeout(120 + STATES)
def test_nothing_confirmed_is_lost_when_ext4_recovers(tmp_path: Path) -> None:
    said = record(_OURS, tmp_path, str(tmp_path / "truth"))
    truth = {int(seq): digest for seq, digest in json.loads((tmp_path / "truth").read_text()).items()}
    events = read_log(tmp_path / "log")
    assert sum(not data for _, _, data in events) > 100
    for place, disk in power_cuts(tmp_path, 0, events[-1][0], STATES, 3):
        at = f"power cut at {place}"
        before = said_before(said, place)
        with mounted(disk, tmp_path / "mnt") as folder:
            journal = folder / "journal"
            if journal.exists():
                reader = JournalReader.open(journal)
                stored = dict(reader.stored())
                assert all(hashlib.sha256(raw).hexdigest() == truth[seq] for seq, raw in stored.items()), at
                missing = set(range(max(reader.acked + 1, reader.oldest), reader.head + 1)) - set(stored)
                named = [finding for finding in verify(journal).findings if finding.first]
                assert all(any(finding.first <= seq <= finding.last for finding in named) for seq in missing), at
            assert lost_after_crash(journal, before) is None, at
