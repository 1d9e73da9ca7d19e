"""kill -9 at any moment: what a ticket confirmed is there afterwards. TAPGATE_KILLS scales the runs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import JSONStorage

from gateway.journal.face import JournalReader
from gateway.journal.verify import verify

RUNS = int(os.environ.get("TAPGATE_KILLS", "100"))

pytestmark = pytest.mark.slow

_OURS = """
import sys
from pathlib import Path
from tests.journal.journals import small, tap
journal = small(Path(sys.argv[1]), quota_bytes=64 << 20)
group, number = int(sys.argv[2]), 0
out = sys.stdout
while True:
    tickets = [journal.append(tap(number + place, boot=journal.boot)) for place in range(group)]
    seqs = [ticket.wait(20) for ticket in tickets]
    out.write(f"{seqs[0]} {seqs[-1]} {number} {journal.acked}\\n")
    out.flush()
    number += group
    if number % 64 == 0:
        journal.acknowledge(seqs[-1] - 100)
"""

_STOCK = """
import sys
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import JSONStorage
db = TinyDB(sys.argv[1], storage=CachingMiddleware(JSONStorage))
number = 0
while True:
    db.insert({"number": number})
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def run_and_kill(script: str, arguments: list[str], seconds: float) -> list[list[int]]:
    """Let a child work for a while, kill it, and return the lines it had confirmed by then."""
    child = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    rest = child.stdout.read()
    child.wait(10)
    child.stdout.close()
    whole_lines = (first + rest).split(b"\n")[:-1]
    return [[int(word) for word in line.split()] for line in whole_lines]


def test_stock_tinydb_with_its_cache_loses_what_it_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "stock.json"
    confirmed = run_and_kill(_STOCK, [str(path)], 0.05)
    with TinyDB(path, storage=CachingMiddleware(JSONStorage)) as db:
        assert len(db) < len(confirmed)


@pytest.mark.parametrize("group", [1, 8])
@pytest.mark.timeout(300)
def test_nothing_confirmed_is_lost_to_kill_9(tmp_path: Path, group: int) -> None:
    roll = random.Random(group)
    confirmed_events = 0
    boots = set()
    for run in range(RUNS):
        lines = run_and_kill(_OURS, [str(tmp_path), str(group)], roll.uniform(0, 0.08))
        reader = JournalReader.open(tmp_path)
        boots.add(reader.boot)
        stored = dict(reader.stored())
        assert reader.head >= lines[-1][1]
        for first, last, number, _ in lines:
            for seq in range(max(first, reader.oldest), last + 1):
                assert f'"key":"{number + seq - first:032x}"'.encode() in stored[seq], f"run {run}: event {seq}"
            confirmed_events += last - first + 1
        # The child acknowledges 100 behind what it confirmed last, and may die before it prints the next line.
        assert reader.oldest <= max(lines[-1][1] - 100, *(line[3] for line in lines), 0) + 1
    assert len(boots) == RUNS
    assert confirmed_events > RUNS * group
    findings = [finding for finding in verify(tmp_path).findings if finding.kind not in {"torn", "missing"}]
    assert findings == []
