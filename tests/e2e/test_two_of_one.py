"""Two machines with one id, two hubs on one broker, a hub put back to a backup: as real daemons."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from gateway.edge.relay import Relay
from tests.e2e.daemons import GATEWAY, SITE, House, Reader, status
from tests.edge.small_hub import wait_until
from tests.journal.journals import small, tap

TAPS = 150
pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(300)]


def test_a_copied_card_in_a_second_machine_loses_no_tap_and_both_say_so(house: House) -> None:
    house.hub("hub")
    one, two = Reader(), Reader()
    first, port = house.gateway("A", one)
    wait_until(lambda: status(port).get("roster_version"), 60, "no roster arrives")
    number = 0
    for _ in range(5):
        one.tap(number := number + 1)
        time.sleep(0.3)
    wait_until(lambda: house.taps("hub") == 5 and status(port).get("waiting") == 0, 30)
    first.terminate()
    first.wait(20)
    shutil.copytree(house.folder / "A", house.folder / "B")
    first, port = house.gateway("A", one)
    second, other_port = house.gateway("B", two)
    wait_until(lambda: status(port) and status(other_port), 30)
    for _ in range(6):
        one.tap(number := number + 1)
        two.tap(number := number + 1)
        time.sleep(0.5)
    for each in (port, other_port):
        wait_until(
            lambda each=each: "Another gateway uses this id" in str(status(each).get("attention")),  # type: ignore[misc]
            60,
            "a gateway does not say it",
        )
    assert "Another gateway uses the id of st-marys/gw-canteen" in house.log("hub")
    # Nothing is lost meanwhile: what the hub has not, the two still hold.
    assert house.taps("hub") + status(port)["waiting"] + status(other_port)["waiting"] >= 17
    second.terminate()
    second.wait(20)
    wait_until(lambda: status(port).get("waiting") == 0, 60, "the one that is left does not go on")
    first.terminate()
    first.wait(20)
    _, other_port = house.gateway("B", two)
    wait_until(lambda: status(other_port).get("waiting") == 0, 60, "the other does not go on alone")
    assert house.taps("hub") == 17


def _send(house: House, folder: Path, *hubs: str) -> None:
    held = sum(house.taps(hub) for hub in hubs)
    journal = small(folder, keep_days=7)
    relay = Relay(journal, house.broker.settings, gateway_id=GATEWAY, site=SITE, resend_seconds=1.0)
    relay.start()
    for seq in range(TAPS):
        journal.append(tap(seq)).wait(5)
    wait_until(lambda: sum(house.taps(hub) for hub in hubs) >= held + TAPS, 40)
    relay.stop()
    journal.close()


@pytest.mark.parametrize("deaf", [False, True])
def test_a_second_hub_on_the_broker_takes_nothing_and_both_say_so(house: House, deaf: bool) -> None:
    words = ("--deaf",) if deaf else ()
    house.hub("one", *words)
    wait_until(lambda: "takes its share" in house.log("one"), 40)
    house.hub("two", *words, worker="hub-1")
    said = "takes its share" if deaf else "Another hub, older than this one, serves this broker"
    wait_until(lambda: said in house.log("two"), 40)
    if not deaf:
        wait_until(lambda: "A second hub serves this broker" in house.log("one"), 40)
    _send(house, house.folder / "journal", "one", "two")
    if deaf:
        # As it was: the two share the taps between them, and nobody is told.
        assert house.taps("two") > 0
        assert house.taps("one") < TAPS
    else:
        assert (house.taps("one"), house.taps("two")) == (TAPS, 0)


def test_workers_and_a_stand_by_of_one_hub_are_no_second_hub(house: House) -> None:
    first = house.hub("one")
    wait_until(lambda: "takes its share" in house.log("one"), 40)
    house.hub("one", worker="hub-1", log="standby.log")
    wait_until(lambda: "takes its share" in house.log("standby"), 40)
    _send(house, house.folder / "journal", "one")
    first.kill()
    first.wait()
    # The broker still holds the ready word of the one that was killed.
    _send(house, house.folder / "journal-2", "one")
    assert house.taps("one") == 2 * TAPS
    assert "older than this one" not in house.log("standby") + house.log("one")


@pytest.mark.parametrize("words", [(), ("--asks-nobody",)])
@pytest.mark.parametrize("backup", ["older", "none"])
def test_a_hub_put_back_while_gateway_and_broker_stay_up_lacks_nothing(
    house: House, words: tuple[str, ...], backup: str
) -> None:
    reader, number = Reader(), 0
    hub = house.hub("hub", *words)
    _, port = house.gateway("A", reader)
    wait_until(lambda: status(port).get("roster_version"), 60)

    def taps(count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            reader.tap(number)
            time.sleep(0.03)
        wait_until(lambda: house.taps("hub") == number and status(port).get("waiting") == 0, 40)

    def stop() -> None:
        hub.terminate()
        hub.wait(30)

    taps(20)
    stop()
    state = house.folder / "hub"
    shutil.copytree(state, house.folder / "backup")
    hub = house.hub("hub", *words)
    taps(100)
    stop()
    shutil.rmtree(state)
    if backup == "older":
        shutil.copytree(house.folder / "backup", state)
    hub = house.hub("hub", *words)
    if words:
        # As it was: what came after the backup is missing, and the gateway holds that nothing waits.
        wait_until(lambda: house.log("hub").count("takes its share") >= 6, 40)
        reader.tap(number + 1)
        wait_until(lambda: house.taps("hub") in {1, 21}, 40)
        time.sleep(3)
        assert house.taps("hub") < number
        assert status(port)["waiting"] == 0
    else:
        wait_until(lambda: house.taps("hub") == number, 60, "the hub does not ask for what it lacks")
