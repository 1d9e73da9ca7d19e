"""A roster that the broker lost, or holds damaged, under real daemons: the gateway asks and the hub sends it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from gateway.link.client import Arrived, Connected, Link, Published
from gateway.link.topics import roster_chunk, roster_manifest
from gateway.roster.publication import read_manifest
from gateway.roster.signing import Trust
from tests.e2e.daemons import SITE, House, Reader, status
from tests.edge.small_hub import wait_until
from tests.link.test_client import wait_for

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(200)]
Spoil = Callable[[Link, str], None]


def put(link: Link, topic: str, payload: bytes) -> None:
    mid = link.publish(topic, payload, retain=True)
    wait_for(link, Published, lambda item: item.mid == mid)


SPOILS: dict[str, Spoil] = {
    "a chunk is gone": lambda link, chunk: put(link, roster_chunk(SITE, chunk), b""),
    "a chunk is damaged": lambda link, chunk: put(link, roster_chunk(SITE, chunk), b"\x00" * 500),
    "a chunk is another's": lambda link, chunk: put(link, roster_chunk(SITE, chunk), roster_manifest(SITE).encode()),
    "the manifest is gone": lambda link, _chunk: put(link, roster_manifest(SITE), b""),
    "the manifest is damaged": lambda link, _chunk: put(link, roster_manifest(SITE), b'{"v":1}'),
}


def spoil(house: House, how: Spoil) -> None:
    link = Link(house.broker.settings, "vandal")
    link.start()
    wait_for(link, Connected)
    link.subscribe([roster_manifest(SITE)])
    found = wait_for(link, Arrived)
    manifest = read_manifest(found.payload, Trust(bytes(range(32))), SITE)
    how(link, next(iter(manifest.chunks)))
    link.close()


def start_spoiled(house: House, how: Spoil, *words: str) -> int:
    house.hub("hub", *words)
    reader = Reader()
    process, port = house.gateway("A", reader)
    wait_until(lambda: status(port).get("roster_version"), 60, "no roster arrives")
    process.terminate()
    process.wait(20)
    spoil(house, how)
    shutil.rmtree(house.folder / "A" / "roster")
    _, port = house.gateway("A", reader)
    wait_until(lambda: status(port).get("link") == "online", 60)
    return port


@pytest.mark.parametrize("how", SPOILS)
def test_a_roster_that_is_missing_or_damaged_on_the_broker_is_asked_for_and_comes(house: House, how: str) -> None:
    port = start_spoiled(house, SPOILS[how])
    wait_until(lambda: status(port).get("roster_version"), 30, house.log("A")[-2000:])
    assert "is sent again" in house.log("hub")


def test_as_it_was_nobody_sent_it_again(house: House) -> None:
    port = start_spoiled(house, SPOILS["a chunk is damaged"], "--heals-no-roster")
    with pytest.raises(AssertionError):
        wait_until(lambda: status(port).get("roster_version"), 12)
