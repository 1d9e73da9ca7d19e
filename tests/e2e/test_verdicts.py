"""The verdict of a gateway's status page, word for word at the hub."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.e2e.daemons import House, Reader, status
from tests.edge.small_hub import wait_until

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(200)]


def at_the_hub(house: House) -> tuple[str, str, str] | None:
    with contextlib.closing(sqlite3.connect(f"file:{house.folder}/hub/hub.db?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT verdict, verdict_sentence, verdict_remedy FROM gateway").fetchone()
    return None if row is None else (row[0], row[1], row[2])


def at_the_gateway(port: int) -> tuple[str, str, str]:
    verdict = status(port).get("verdict", {})
    return verdict.get("level", ""), verdict.get("sentence", ""), verdict.get("remedy", "")


def test_the_hub_repeats_what_the_gateway_s_own_page_says_and_follows_it(house: House) -> None:
    house.hub("hub")
    reader = Reader()
    _, port = house.gateway("A", reader)
    wait_until(lambda: status(port).get("roster_version"), 60, "no roster arrives")
    wait_until(lambda: at_the_hub(house) == at_the_gateway(port), 30, "the hub says something else")
    assert at_the_gateway(port)[:2] == ("bad", "The roster holds no card: every tap is denied.")
    reader.unplug()
    wait_until(lambda: "do not answer" in (at_the_hub(house) or ("", ""))[1], 60, "the hub does not follow")
    assert at_the_hub(house) == at_the_gateway(port)
