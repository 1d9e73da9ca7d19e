from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.commands import CommandDesk
from gateway.link import messages
from gateway.link.client import Arrived
from gateway.link.messages import Command, Reply
from tests.journal.journals import small

CHALLENGE = "5a" * 16


def arrived(payload: bytes, *, retained: bool = False) -> Arrived:
    return Arrived("tapgate/v1/st-marys/gw-canteen/command", payload, retained, 1, 7, 1)


def test_a_retained_command_and_bytes_that_are_none_are_never_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = small(tmp_path)
    done: list[Any] = []
    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None, CHALLENGE)
    desk.register("unlock", done.append)
    payload = messages.encode(Command("unlock", 1, challenge=CHALLENGE))
    assert desk.handle(arrived(payload, retained=True)) is None
    assert desk.handle(arrived(b"\xff")) is None
    assert done == []
    assert desk.last_number == 0
    assert "retained" in caplog.text
    journal.close()


def test_a_command_that_met_a_fault_is_answered_and_its_number_is_spent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = small(tmp_path)

    def broken(_args: dict[str, Any]) -> None:
        raise ZeroDivisionError

    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None, CHALLENGE)
    desk.register("identify", broken)
    reply = desk.handle(arrived(messages.encode(Command("identify", 3, challenge=CHALLENGE))))
    assert isinstance(reply, Reply)
    assert not reply.done
    assert "ZeroDivisionError" in caplog.text
    journal.close()
    again = small(tmp_path)
    assert CommandDesk(again.tinydb.table("commands"), lambda: None, CHALLENGE).last_number == 3
    again.close()


def test_an_expiry_that_is_no_time_is_refused_and_spends_no_number(tmp_path: Path) -> None:
    journal = small(tmp_path)
    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None, CHALLENGE)
    desk.register("identify", lambda _args: None)
    reply = desk.handle(arrived(messages.encode(Command("identify", 3, {}, "tomorrow", CHALLENGE))))
    assert reply is not None
    assert "UTC time" in (reply.error or "")
    assert desk.last_number == 0
    journal.close()


def test_a_command_that_expires_is_not_done_while_no_time_is_known(tmp_path: Path) -> None:
    journal = small(tmp_path)
    done: list[Any] = []
    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None, CHALLENGE)
    desk.register("replay", done.append, repeatable=True)
    reply = desk.handle(arrived(messages.encode(Command("replay", 0, {"from": 1}, "2020-01-01T00:00:00Z"))))
    assert reply is not None
    assert "does not know the time" in (reply.error or "")
    assert done == []
    journal.close()


def test_an_old_image_of_the_card_never_does_a_recorded_unlock(tmp_path: Path) -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    recorded = arrived(messages.encode(Command("unlock", 7, {}, "2026-11-22T12:00:10Z", CHALLENGE)))
    done: list[str] = []
    image = tmp_path / "image"
    small(tmp_path / "card").close()
    shutil.copytree(tmp_path / "card", image)
    for folder, challenge, clock in (
        (tmp_path / "card", CHALLENGE, noon),
        (image, "6b" * 16, noon),
        (image, "7c" * 16, None),
    ):
        journal = small(folder)
        desk = CommandDesk(journal.tinydb.table("commands"), lambda now=clock: now, challenge)  # type: ignore[misc]
        desk.register("unlock", lambda _args, name=challenge: done.append(name))  # type: ignore[misc]
        desk.handle(recorded)
        if folder == image:
            # Its table has no number yet: without the challenge nothing would stop the record.
            assert desk.last_number == 0
        journal.close()
    assert done == [CHALLENGE]
