"""A card that is older than what the gateway already sent: restored from a copy, or robbed of its newest sectors."""

from __future__ import annotations

import queue
import shutil
from pathlib import Path

from gateway.access.event import decode_event
from gateway.journal.anchor import PLACE
from gateway.journal.verify import verify
from tests.journal.journals import assert_chained, fill, small, tap


def test_numbers_that_the_hub_knows_are_never_given_again(tmp_path: Path) -> None:
    first = small(tmp_path / "card")
    fill(first, 50)
    first.close()
    shutil.copytree(tmp_path / "card", tmp_path / "copy")
    second = small(tmp_path / "card")
    fill(second, 30)
    second.close()

    restored = small(tmp_path / "copy", keep_days=7)
    live: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
    early = [restored.append(tap(number, boot=2)).wait(5) for number in (901, 902)]
    assert early == [51, 52]
    restored.subscribe(lambda seq, _raw, event: live.put((seq, str(event.person))))
    restored.acknowledge(80, may_leap=True)
    assert [live.get(timeout=5) for _ in range(2)] == [(81, f"p_{901:016x}"), (82, f"p_{902:016x}")]
    assert restored.append(tap(boot=2)).wait(5) == 83
    assert (restored.acked, restored.head) == (80, 83)
    assert "card is older" in restored.stats().damage[-1].what
    raws = [raw for _, raw in restored.after(80, 10)]
    assert [decode_event(raw).seq for raw in raws] == [81, 82, 83]
    assert_chained(raws, decode_event(raws[0]).prev)
    restored.close()
    again = small(tmp_path / "copy", keep_days=7)
    assert (again.epoch, again.head, again.acked) == (first.epoch, 83, 80)
    again.close()
    assert [(finding.kind, finding.first, finding.last) for finding in verify(tmp_path / "copy").findings][-1] == (
        "missing",
        53,
        80,
    )


def test_a_watermark_out_of_all_reason_is_ignored(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 5)
    journal.acknowledge(10**15)
    assert journal.append(tap()).wait(5) == 6
    assert journal.acked == 0
    journal.close()


def test_zeros_over_the_newest_records_are_told_by_the_hub_s_watermark(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 50)
    shutil.copytree(tmp_path, tmp_path.parent / "robbed")
    journal.close()
    path = next((tmp_path.parent / "robbed").glob("segment-*"))
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    path.write_bytes(data[: end - 4096] + bytes(len(data) - end + 4096))
    # A journal of the release before has no anchor.
    (tmp_path.parent / "robbed" / PLACE).unlink()
    robbed = small(tmp_path.parent / "robbed")
    assert robbed.head < 50
    robbed.acknowledge(50, may_leap=True)
    assert robbed.append(tap(boot=2)).wait(5) == 51
    robbed.close()
