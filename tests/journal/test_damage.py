"""Truncations, flipped bits and overwritten sectors: what is left is right, and what is gone is named.

Each harness first runs against stock TinyDB and must catch it. TAPGATE_FAULTS scales the rounds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tinydb import TinyDB

from gateway.access.event import decode_event
from gateway.journal import anchor
from gateway.journal.catalog import Catalog
from gateway.journal.face import JournalReader
from gateway.journal.frames import Frame, FrameKind, scan
from gateway.journal.segments import DATA_START, list_segments, segment_path
from gateway.journal.verify import verify
from tests.journal.journals import fill, small, tap

ROUNDS = int(os.environ.get("TAPGATE_FAULTS", "1000"))
TAPS = 600
SEGMENT_BYTES = 128 << 10

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, bytes]]:
    """The folder of a journal as a power cut finds it: nothing closed, the last segment with its unused rest."""
    folder = tmp_path_factory.mktemp("journal")
    journal = small(folder, segment_bytes=SEGMENT_BYTES)
    fill(journal, TAPS)
    copy = tmp_path_factory.mktemp("image")
    shutil.rmtree(copy)
    shutil.copytree(folder, copy)
    events = dict(journal.stored())
    journal.close()
    assert len(events) == TAPS
    return copy, events


@pytest.fixture(scope="module")
def stock_image(image: tuple[Path, dict[int, bytes]]) -> bytes:
    documents = {str(seq): json.loads(raw) for seq, raw in image[1].items()}
    return json.dumps({"_default": documents}).encode()


def stock_survives(path: Path, damaged: bytes, whole: bytes) -> bool:
    """Say whether stock TinyDB reads everything, or fails without giving wrong data as right."""
    path.write_bytes(damaged)
    try:
        with TinyDB(path) as db:
            return db.table("_default").all() == [document | {} for document in json.loads(whole)["_default"].values()]
    except (ValueError, TypeError, AttributeError):
        return False


def rolls(seed: int, count: int = ROUNDS) -> Iterator[random.Random]:
    for number in range(count):
        yield random.Random(seed * 1_000_003 + number)


def put_back(image: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(image, target)


def frame_ends(folder: Path, number: int) -> list[tuple[int, int]]:
    catalog = Catalog(folder)
    catalog.load()
    header = next(entry.header for entry in catalog.entries if entry.number == number)
    data = segment_path(folder, number).read_bytes()
    return [
        (frame.number, frame.end)
        for frame in scan(data, header.seed, DATA_START)
        if isinstance(frame, Frame) and frame.kind is FrameKind.EVENT
    ]


def test_stock_tinydb_does_not_survive_truncation_flips_and_overwrites(stock_image: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stock.json"
    lost = {"cut": 0, "flip": 0, "sector": 0}
    rounds = 60
    for roll in rolls(1, rounds):
        cut = roll.randrange(1, len(stock_image))
        lost["cut"] += not stock_survives(path, stock_image[:cut], stock_image)
        flipped = bytearray(stock_image)
        flipped[roll.randrange(len(flipped))] ^= 1 << roll.randrange(8)
        lost["flip"] += not stock_survives(path, bytes(flipped), stock_image)
        start = roll.randrange(len(stock_image) // 512) * 512
        spoiled = stock_image[:start] + roll.randbytes(512) + stock_image[start + 512 :]
        lost["sector"] += not stock_survives(path, spoiled, stock_image)
    assert lost["cut"] == rounds
    assert lost["flip"] > rounds * 0.9
    assert lost["sector"] == rounds


def test_a_journal_cut_anywhere_gives_exactly_the_whole_records_and_goes_on(
    image: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    folder, events = image
    last = list_segments(folder)[-1]
    ends = frame_ends(folder, last)
    edges = {end for _, end in ends} | {DATA_START}
    target = tmp_path / "journal"
    for number, roll in enumerate(rolls(2)):
        put_back(folder, target)
        if not (is_anchored := number % 2 == 0):
            (target / anchor.PLACE).unlink()
        path = segment_path(target, last)
        cut = roll.randrange(DATA_START, ends[-1][1] + 1)
        path.write_bytes(path.read_bytes()[:cut])
        gone = {seq for seq, end in ends if end > cut}
        journal = small(target, segment_bytes=SEGMENT_BYTES)
        kept = dict(journal.stored())
        assert kept == {seq: raw for seq, raw in events.items() if seq not in gone}
        torn = cut not in edges
        head = max(events) if is_anchored else max(kept) + torn
        assert journal.head == head
        assert [damage.torn for damage in journal.stats().damage] == [True] * (head > max(kept))
        assert journal.append(tap(boot=2)).wait(10) == head + 1
        assert len(journal.after(0, TAPS + 10)) == journal.head
        journal.close()


def assert_nothing_silent(target: Path, events: dict[int, bytes], spare: int = 0) -> int:
    """Check that what can be read is unchanged and that all the rest is named; returns how many are gone."""
    reader = JournalReader.open(target)
    kept = dict(reader.stored())
    assert all(events.get(seq) == raw for seq, raw in kept.items())
    gone = set(events) - set(kept)
    named: set[int] = set()
    for finding in verify(target).findings:
        if finding.kind == "missing":
            named |= set(range(finding.first, finding.last + 1))
    assert gone <= named
    # The tail may have held one more that was never acknowledged; where no head is left its length tells how many.
    assert len(named - gone) <= 1 + spare
    told = {
        seq for seq, raw in reader.after(0, TAPS * 2) if b"event_lost" in raw and decode_event(raw).system is not None
    }
    assert told == named
    return len(gone)


def test_a_flipped_bit_costs_one_event_at_most_and_never_silently(
    image: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    folder, events = image
    numbers = list_segments(folder)
    used = {number: max((end for _, end in frame_ends(folder, number)), default=DATA_START) for number in numbers}
    target = tmp_path / "journal"
    put_back(folder, target)
    lost = 0
    for roll in rolls(3):
        number = roll.choice(numbers)
        path = segment_path(target, number)
        whole = path.read_bytes()
        place = roll.randrange(used[number])
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << roll.randrange(8)]) + whole[place + 1 :])
        gone = assert_nothing_silent(target, events)
        assert gone <= 1
        lost += gone
        path.write_bytes(whole)
    # Bits of headers and of their second copies cost nothing; nearly all others are in a record.
    assert lost > ROUNDS * 0.9


def test_overwritten_sectors_cost_what_lay_there_and_never_silently(
    image: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    folder, events = image
    numbers = list_segments(folder)
    used = {number: max((end for _, end in frame_ends(folder, number)), default=DATA_START) for number in numbers}
    target = tmp_path / "journal"
    put_back(folder, target)
    costs: list[int] = []
    for roll in rolls(4):
        number = roll.choice(numbers)
        path = segment_path(target, number)
        whole = path.read_bytes()
        start = roll.randrange(used[number] // 512 + 1) * 512
        length = 512 * roll.randint(1, 16)
        over_the_end = number == numbers[-1] and start + length > used[number] - 512
        # A write that went astray: older records of the same segment, good in themselves.
        stale = whole[DATA_START : DATA_START + length] if DATA_START + length <= start else roll.randbytes(length)
        junk = [roll.randbytes(length), b"\xff" * length, stale, bytes(length)]
        # Zeros over the newest records read as never written; only the hub's watermark can tell (test_older_card).
        chosen = roll.choice(junk[:3] if over_the_end else junk)
        path.write_bytes((whole[:start] + chosen + whole[start + length :])[: len(whole)])
        costs.append(assert_nothing_silent(target, events, spare=length // 300 if over_the_end else 0))
        path.write_bytes(whole)
    # 8 KiB hold about 22 events, and one more at each end.
    assert max(costs) <= 8192 // min(map(len, events.values())) + 2
