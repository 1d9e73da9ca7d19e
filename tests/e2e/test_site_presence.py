"""Two kiosks on two gateways agree about who is in."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import needs_mosquitto
from tests.e2e.daemons import SITE, House, Reader, status
from tests.edge.small_hub import wait_until

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(240)]
CARD = 0x0A1B2C3D
SOURCE = """
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
card_encoding = "hex-msb"
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    needs_mosquitto()
    made = House(tmp_path)
    (tmp_path / "people.csv").write_text(f"Student ID,First name,Last name,Card\n1,Ann,Smith,{CARD:08X}\n")
    yield made
    made.close()


def movements(house: House) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(f"file:{house.folder}/hub/hub.db?mode=ro", uri=True)) as connection:
        query = "SELECT g.name, m.direction FROM movement m JOIN gateway g ON g.id = m.gateway ORDER BY m.at_ms"
        return list(connection.execute(query))


def test_whoever_signs_in_at_one_kiosk_signs_out_at_the_other(house: House) -> None:
    house.hub("hub", extra=SOURCE)
    readers = {"gw-desk": Reader(), "gw-hall": Reader()}
    ports = {name: house.gateway(name, reader, name=name)[1] for name, reader in readers.items()}
    config = str(house.folder / "hub.log.toml")
    command = [sys.executable, "-m", "gateway", "mis", "sync", "--first", "--config", config]
    command += ["--site", SITE, "--source", "mis"]
    wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 60)
    for port in ports.values():
        wait_until(lambda port=port: status(port).get("roster_cards") == 1, 60, "no roster arrives")
    readers["gw-desk"].tap(CARD)
    wait_until(lambda: movements(house) == [("gw-desk", "in")], 30)
    wait_until(lambda: status(ports["gw-hall"]).get("signed_in") == 1, 30, "the other kiosk does not hear of it")
    readers["gw-hall"].tap(CARD)
    wait_until(lambda: len(movements(house)) == 2, 30)
    assert movements(house) == [("gw-desk", "in"), ("gw-hall", "out")]
