from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gateway.errors import StoreUnavailable
from gateway.hub.store.engine import Store
from gateway.hub.work import standby
from gateway.hub.work.standby import Standby
from tests.hub.samples import wait_until

BOTH_DATABASES = True


class Worker(Standby):
    """Works until it is stopped; counts how many of its kind work at once."""

    busy = 0
    most = 0
    guard = threading.Lock()

    def __init__(self, store: Store) -> None:
        self.beats = self.turns = 0
        super().__init__("digging", store, self._count)

    def _count(self) -> None:
        self.beats += 1

    def _work(self, still_held: Callable[[], bool]) -> None:
        with Worker.guard:
            Worker.busy += 1
            Worker.most = max(Worker.most, Worker.busy)
        assert still_held()
        self.turns += 1
        self._stopping.wait()
        with Worker.guard:
            Worker.busy -= 1


class Unlucky(Standby):
    """Loses its database at the first three turns."""

    def __init__(self, store: Store) -> None:
        self.turns = 0
        super().__init__("digging", store, lambda: None)

    def _work(self, still_held: Callable[[], bool]) -> None:
        self.turns += 1
        if self.turns <= 3:
            raise StoreUnavailable("The database does not answer.")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "LOOK_SECONDS", 0.02)
    Worker.busy = Worker.most = 0


def test_one_works_the_others_stand_by_and_one_of_them_takes_over(store: Store) -> None:
    first, *others = workers = [Worker(store) for _ in range(3)]
    first.start()
    wait_until(lambda: first.turns, "nobody works")
    for worker in others:
        worker.start()
    wait_until(lambda: all(worker.beats > 3 for worker in others), "those who stand by do not beat")
    assert [worker.turns for worker in workers] == [1, 0, 0]
    first.stop()
    wait_until(lambda: any(worker.turns for worker in others), "nobody takes over")
    for worker in others:
        worker.stop()
    assert Worker.most == 1


def test_an_outage_is_said_once_and_the_work_goes_on_afterwards(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    worker = Unlucky(store)
    worker.start()
    wait_until(lambda: worker.turns > 4, "it does not try again")
    worker.stop()
    said = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in said] == ["digging waits: The database does not answer."]
