"""What the tests of the journal share: events of an invented gateway and short ways to fill and read a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gateway.access.event import FIRST_PREV, CardRef, Event, decode_event
from gateway.errors import JournalFull
from gateway.journal.face import JournalReader
from gateway.journal.journal import Journal

GATEWAY = "gw-canteen"


def tap(number: int = 0, *, boot: int = 1, at: str = "2026-11-22T08:31:04.123Z", clock: str = "ntp") -> Event:
    return Event(
        gw=GATEWAY,
        boot=boot,
        at=at,
        clock=clock,
        up=1234.567 + number,
        kind="tap",
        point="lane-1",
        reader="lane-1",
        card=CardRef(key=f"{number:032x}", tail="E5F6", type="mifare-classic-1k"),
        person=f"p_{number:016x}",
        decision="granted",
        reason="ok",
        rule="lunch",
        roster=412,
        took_us=184,
    )


def small(directory: Path, **options: object) -> Journal:
    """Open a journal of small segments, about 160 taps each."""
    settings: dict[str, object] = {"segment_bytes": 64 << 10, "quota_bytes": 4 << 20, "keep_days": 0}
    return Journal.open(directory, GATEWAY, **{**settings, **options})


def fill(journal: Journal, count: int) -> None:
    tickets = [journal.append(tap(number)) for number in range(count)]
    for ticket in tickets:
        ticket.wait(20)


def until_full(journal: Journal) -> JournalFull:
    """Append until the journal refuses, and return its refusal."""
    for number in range(100_000):
        try:
            journal.append(tap(number)).wait(5)
        except JournalFull as error:
            return error
    raise AssertionError("the journal never became full")


def read_back(directory: Path) -> dict[int, bytes]:
    return dict(JournalReader.open(directory).stored())


def assert_chained(raws: list[bytes], first_prev: str = FIRST_PREV) -> None:
    prev = first_prev
    for raw in raws:
        assert decode_event(raw).prev == prev
        prev = hashlib.sha256(raw).digest()[:16].hex()
