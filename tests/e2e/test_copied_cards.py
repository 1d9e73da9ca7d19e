"""No tap is lost or counted twice, whatever is done to cards and to the hub's database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.event import FIRST_PREV
from gateway.edge.standing import STOPPED, Standing
from gateway.hub.ingest import commit as commit_module
from gateway.journal.journal import Journal
from tests.e2e.copied_cards import QUIET_MS, World, blank_hub, no_sockets

__all__ = ["blank_hub", "no_sockets"]
pytestmark = pytest.mark.usefixtures("no_sockets")


@pytest.fixture
def world(tmp_path: Path, blank_hub: Path) -> Iterator[World]:
    made = World(tmp_path, blank_hub)
    yield made
    made.close()


def _f3(world: World) -> None:
    """Copy at 50, hub at 80, then two offline boots of the copy that add 2 and 1 (operations.md, F3)."""
    first = world.machines[0]
    first.start()
    for _ in range(50):
        world.tap(first)
    world.online(first)
    first.stop()
    image = world.copy(first)
    first.start()
    for _ in range(30):
        world.tap(first)
    world.online(first)
    first.stop()
    for count in (2, 1):
        image.start()
        for _ in range(count):
            world.tap(image)
        image.stop()


def test_f3_an_old_image_with_two_offline_boots_loses_nothing(world: World) -> None:
    _f3(world)
    world.machines[1].start()
    world.online(world.machines[1])
    journal, relay = world.machines[1].journal, world.machines[1].relay
    assert journal is not None
    assert relay is not None
    assert world.counted() == world.tapped
    assert journal.stats().waiting == 0
    assert "forked at event 50" in (relay.status().notice or "")
    assert "forked at event 50" in (world.alarm() or "")


def test_the_model_sees_what_the_old_rule_loses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # As it was: no welcome, numbers are believed, and one above the head renumbers the last boot.
    acknowledge = Journal.acknowledge

    def by_number(self: Journal, upto: int, have: Any = (), **_options: Any) -> bool:
        return acknowledge(self, upto, have, may_leap=True)

    monkeypatch.setattr(Journal, "acknowledge", by_number)
    monkeypatch.setattr(Standing, "may_send", property(lambda _self: True))
    monkeypatch.setattr(Standing, "answered", lambda *_args, **_options: None)
    monkeypatch.setattr("gateway.hub.ingest.marks.Mark.holds", lambda *_args: True)
    _f3(world)
    world.machines[1].start()
    world.online(world.machines[1])
    assert set(world.tapped) - set(world.counted())


def test_the_model_sees_what_is_counted_twice_without_the_first_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "is_copy", lambda *_args: False)
    monkeypatch.setattr(Journal, "link_points", lambda _self: [(0, FIRST_PREV)])
    _fork_in_the_middle_of_a_boot(world)
    assert len(world.counted()) > len(world.tapped)


def _fork_in_the_middle_of_a_boot(world: World) -> None:
    first = world.machines[0]
    first.start()
    for _ in range(30):
        world.tap(first)
    world.online(first)
    copy = world.copy(first)
    copy.start()
    world.tap(copy)
    world.online(copy)
    copy.stop()
    for _ in range(10):
        world.tap(first)
    world.online(first)
    world.clock.now += QUIET_MS / 1000
    world.online(first, seconds=61)


@pytest.mark.parametrize("coarse", [False, True])
def test_what_both_sides_of_a_fork_share_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch, coarse: bool
) -> None:
    if coarse:
        # The hub finds nothing that both share, so the gateway writes everything again.
        monkeypatch.setattr(Journal, "link_points", lambda _self: [(0, FIRST_PREV)])
    _fork_in_the_middle_of_a_boot(world)
    assert world.counted() == world.tapped
    assert "forked" in (world.alarm() or "")


def test_the_same_old_image_put_back_twice_is_counted_once(world: World) -> None:
    first = world.machines[0]
    first.start()
    for _ in range(5):
        world.tap(first)
    images = [world.copy(first), world.copy(first)]
    world.online(first)
    first.stop()
    for image in images:
        image.start()
        world.tap(image)
        world.online(image)
        image.stop()
    assert world.counted() == world.tapped


def test_two_machines_with_one_id_are_stopped_and_named_on_both_sides(world: World) -> None:
    first = world.machines[0]
    first.start()
    world.tap(first)
    world.online(first)
    second = world.copy(first)
    second.start()
    for _ in range(3):
        for machine in (first, second):
            world.tap(machine)
            world.online(machine)
    for machine in (first, second):
        assert machine.relay is not None
        status = machine.relay.status()
        assert status.stopped
        assert "Another gateway uses this id" in (status.notice or "")
    assert "board-0" in (world.alarm() or "")
    assert "board-1" in (world.alarm() or "")
    assert len(world.counted()) < len(world.tapped)
    second.stop()
    world.clock.now += QUIET_MS / 1000
    world.online(first, seconds=61)
    assert first.relay is not None
    assert first.relay._standing.state != STOPPED
    assert first.relay.status().notice is None or "Another" not in (first.relay.status().notice or "")
    world.drain()
    assert world.counted() == world.tapped


def test_a_hub_put_back_to_a_backup_asks_for_what_it_lacks_without_a_new_birth(world: World, tmp_path: Path) -> None:
    only = world.machines[0]
    only.start()
    world.tap(only)
    world.online(only)
    world.back_up_hub(tmp_path / "backup.db")
    for _ in range(100):
        world.tap(only)
    world.online(only)
    world.restore_hub(tmp_path / "backup.db")
    world.tap(only)
    world.online(only)
    assert world.counted() == world.tapped


def test_a_hub_that_begins_from_nothing_gets_everything_again(world: World, blank_hub: Path) -> None:
    only = world.machines[0]
    only.start()
    for _ in range(60):
        world.tap(only)
    world.online(only)
    world.restore_hub(blank_hub)
    world.tap(only)
    world.online(only)
    assert world.counted() == world.tapped


_STEP = st.tuples(
    st.sampled_from(
        ["tap", "tap", "tap", "boot", "stop", "copy", "online", "online", "cut", "back_up", "restore", "wait"]
    ),
    st.integers(0, 3),
    st.integers(1, 6),
)


@pytest.mark.timeout(600)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_STEP, min_size=5, max_size=30))
def test_every_tap_is_counted_once_over_copies_boots_offline_spells_and_twins(
    blank_hub: Path, steps: list[tuple[str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), blank_hub)
        backup: Path | None = None
        world.machines[0].start()
        try:
            for number, (word, which, count) in enumerate(steps):
                machine = world.machines[which % len(world.machines)]
                if word == "copy" and len(world.machines) < 4:
                    world.copy(machine)
                elif word == "boot":
                    machine.stop()
                    machine.start()
                elif word == "stop":
                    machine.stop()
                elif word == "wait":
                    world.clock.now += count * QUIET_MS / 3000
                elif word == "back_up":
                    backup = Path(folder) / f"backup-{number}.db"
                    world.back_up_hub(backup)
                elif word == "restore" and backup is not None:
                    world.restore_hub(backup)
                elif machine.is_on and word == "tap":
                    for _ in range(count):
                        world.tap(machine)
                elif machine.is_on and word in {"online", "cut"}:
                    world.online(machine, count if word == "cut" else 10_000)
            world.drain()
            assert world.counted() == world.tapped
        finally:
            world.close()
