"""Soak: everything that can be killed is killed, again and again. `python tests/bench/soak.py --minutes 20 --json`.

Three gateways (real journals and relays in processes of their own), three ingest workers, a broker that keeps nothing
on disk and PostgreSQL are killed -9 in random order and come back after a random while, so several are often away at
once. At the end everything is brought back, the gateways wait until the hub has all they kept, and what each journal
confirmed is compared with the hub's rows. `--workers twin` runs workers that acknowledge before they commit; the soak
then must report losses, and its exit code is 0 only when it does.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.access.event import decode_event
from gateway.hub.fleet.chain import list_faults, verify_all
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from tests.edge.gateway_process import GatewayProcess
from tests.hub.conftest import Postgres
from tests.hub.school import GATEWAYS, REAL, TWIN, WORKERS, School
from tests.journal.journals import read_back

BETWEEN_KILLS_SECONDS = (2.0, 7.0)
AWAY_SECONDS = (0.2, 6.0)
FINISH_SECONDS = 240.0
# How often each kind is drawn; the broker and the database are one each, and everything stands still without them.
WEIGHTS = {"gateway": 6, "worker": 6, "broker": 3, "database": 2}


class Soak:
    """The school, its gateways, and what is away at the moment."""

    def __init__(self, school: School, gateways: list[GatewayProcess], draw: random.Random) -> None:
        self._school, self._gateways, self._draw = school, gateways, draw
        self._away: set[tuple[str, int]] = set()
        self._returns: list[tuple[float, int, tuple[str, int]]] = []
        self._order = itertools.count()
        self.kills: Counter[str] = Counter()
        self.most_away = 0
        self.fell_alone = 0

    def storm(self, seconds: float) -> None:
        """Kill and bring back until the time is over; at the end everything is there."""
        end = time.monotonic() + seconds
        next_kill = time.monotonic()
        while (now := time.monotonic()) < end:
            if now >= next_kill:
                self._kill_one()
                next_kill = now + self._draw.uniform(*BETWEEN_KILLS_SECONDS)
            while self._returns and self._returns[0][0] <= now:
                self._bring_back(heapq.heappop(self._returns)[2])
            time.sleep(0.05)
        while self._returns:
            self._bring_back(heapq.heappop(self._returns)[2])

    def _kill_one(self) -> None:
        (kind,) = self._draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
        victim = kind, self._draw.randrange({"gateway": len(self._gateways), "worker": WORKERS}.get(kind, 1))
        if victim in self._away:
            return
        self._parts()[kind][0](victim[1])
        self.kills[kind] += 1
        self._away.add(victim)
        self.most_away = max(self.most_away, len(self._away))
        back_at = time.monotonic() + self._draw.uniform(*AWAY_SECONDS)
        heapq.heappush(self._returns, (back_at, next(self._order), victim))

    def _bring_back(self, victim: tuple[str, int]) -> None:
        self._parts()[victim[0]][1](victim[1])
        self._away.discard(victim)

    def _parts(self) -> dict[str, tuple[Callable[[int], None], Callable[[int], None]]]:
        school, postgres = self._school, self._school.postgres
        assert postgres is not None
        return {
            "gateway": (self._kill_gateway, lambda number: self._gateways[number].start()),
            "worker": (self._kill_worker, school.start_worker),
            "broker": (self._kill_broker, lambda _: school.start_broker()),
            "database": (lambda _: postgres.kill(), lambda _: postgres.start()),
        }

    def _kill_gateway(self, number: int) -> None:
        self.fell_alone += not self._gateways[number].alive
        self._gateways[number].kill()

    def _kill_worker(self, number: int) -> None:
        worker = self._school.workers[number]
        self.fell_alone += worker.poll() is not None
        worker.kill()
        worker.wait()

    def _kill_broker(self, _number: int) -> None:
        self.fell_alone += self._school.mosquitto.poll() is not None
        self._school.mosquitto.kill()
        self._school.mosquitto.wait()


def compare(school: School, gateways: list[GatewayProcess]) -> dict[str, Any]:
    """Compare what the journals confirmed with the hub's rows, and follow the hash chains."""
    store = open_store(school.url, school.folder / "state")
    verify_all(store)
    event, owner = tables.event, tables.gateway
    rows: dict[str, list[tuple[int, bytes]]] = {gateway.gateway: [] for gateway in gateways}
    with store.read() as connection:
        for row in connection.execute(select(owner.c.name, event.c.seq, event.c.raw).join_from(event, owner)):
            rows[row.name].append((row.seq, bytes(row.raw)))
        quarantined = connection.scalar(select(func.count()).select_from(tables.quarantine))
        faults = len(list_faults(connection))
        epochs = connection.scalar(select(func.count()).select_from(tables.mark))
    store.close()
    found: Counter[str] = Counter()
    for gateway in gateways:
        journal, held = read_back(gateway.folder), dict(rows[gateway.gateway])
        persons = Counter(decode_event(raw).person for _, raw in rows[gateway.gateway])
        found["confirmed"] += len(gateway.kept)
        found["stored"] += len(rows[gateway.gateway])
        found["lost"] += sum(
            seq not in held or decode_event(held[seq]).person != f"p_{number:016x}"
            for seq, number in gateway.kept.items()
        )
        found["not_as_journaled"] += sum(held.get(seq) != raw for seq, raw in journal.items())
        found["never_journaled"] += sum(seq not in journal for seq in held)
        found["duplicated"] += sum(count - 1 for count in persons.values()) + len(rows[gateway.gateway]) - len(held)
    names = ("confirmed", "stored", "lost", "duplicated", "not_as_journaled", "never_journaled")
    return {
        **{name: found[name] for name in names},
        "quarantined": quarantined,
        "chain_faults": faults,
        "journals": epochs,
    }


def run(folder: Path, minutes: float, pause_seconds: float, module: str, seed: int) -> dict[str, Any]:
    postgres = Postgres(folder)
    postgres.start()
    started = time.monotonic()
    school = School(folder, postgres, module)
    gateways = [
        GatewayProcess(folder / name, school.port, gateway=name, pause=pause_seconds, keep_days=7) for name in GATEWAYS
    ]
    try:
        for gateway in gateways:
            gateway.start()
        soak = Soak(school, gateways, random.Random(seed))
        soak.storm(minutes * 60)
        ended = time.monotonic()
        for gateway in gateways:
            gateway.finish(FINISH_SECONDS)
        unfinished = sum(gateway.done is None for gateway in gateways)
        drained_seconds = time.monotonic() - ended
        compared = compare(school, gateways)
    finally:
        for gateway in gateways:
            if gateway.alive:
                gateway.kill()
        school.close()
        postgres.stop()
    seconds = time.monotonic() - started
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Without PostgreSQL's own children, which are nobody's to wait for once their parent is killed.
    cpu_seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {
        "name": "soak",
        "workers": "real" if module == REAL else "twin",
        "seed": seed,
        "minutes": round(seconds / 60, 1),
        "kills": dict(sorted(soak.kills.items())),
        "most_away_at_once": soak.most_away,
        "fell_without_a_kill": soak.fell_alone,
        "gateways_not_done": unfinished,
        "seconds_until_all_committed": round(drained_seconds, 1),
        **compared,
        "cpu_of_one_core": round(cpu_seconds / seconds, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--pause-seconds", type=float, default=0.12, help="between two taps of one gateway")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", choices=["real", "twin"], default="real")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tapgate-soak-") as name:
        module = REAL if words.workers == "real" else TWIN
        result = run(Path(name), words.minutes, words.pause_seconds, module, words.seed)
    print(json.dumps(result, indent=None if words.json else 2))
    bad = any(
        result[key]
        for key in ("lost", "duplicated", "not_as_journaled", "never_journaled", "quarantined", "chain_faults")
    )
    if words.workers == "twin":
        return 0 if result["lost"] else 1
    return 1 if bad or result["gateways_not_done"] else 0


if __name__ == "__main__":
    sys.exit(main())
