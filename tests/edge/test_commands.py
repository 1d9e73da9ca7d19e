from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.edge.commands import CommandDesk
from gateway.link import messages
from gateway.link.client import Arrived
from gateway.link.messages import Command, Reply
from tests.journal.journals import small


def arrived(payload: bytes, *, retained: bool = False) -> Arrived:
    return Arrived("tapgate/v1/st-marys/gw-canteen/command", payload, retained, 1, 7, 1)


def test_a_retained_command_and_bytes_that_are_none_are_never_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = small(tmp_path)
    done: list[Any] = []
    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None)
    desk.register("unlock", done.append)
    payload = messages.encode(Command("unlock", 1))
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

    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None)
    desk.register("identify", broken)
    reply = desk.handle(arrived(messages.encode(Command("identify", 3))))
    assert isinstance(reply, Reply)
    assert not reply.done
    assert "ZeroDivisionError" in caplog.text
    journal.close()
    again = small(tmp_path)
    assert CommandDesk(again.tinydb.table("commands"), lambda: None).last_number == 3
    again.close()


def test_an_expiry_that_is_no_time_is_refused_and_spends_no_number(tmp_path: Path) -> None:
    journal = small(tmp_path)
    desk = CommandDesk(journal.tinydb.table("commands"), lambda: None)
    desk.register("identify", lambda _args: None)
    reply = desk.handle(arrived(messages.encode(Command("identify", 3, {}, "tomorrow"))))
    assert reply is not None
    assert "UTC time" in (reply.error or "")
    assert desk.last_number == 0
    journal.close()
