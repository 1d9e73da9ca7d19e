"""Bench: live taps while a backlog drains. `python -m tests.bench.backlog [EVENTS] [mosquitto|iotcore]`.

The hub is the small one of the tests: it reads every event and answers each message with its watermark, without a
database. The journal and the broker are real. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles

from gateway.edge.relay import Relay
from gateway.journal.journal import Journal
from tests.brokers import Iotcore, Mosquitto
from tests.edge.small_hub import SmallHub
from tests.journal.journals import GATEWAY, tap

LIVE_PAUSE_SECONDS = 0.05


def main(events: int, kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tapgate-bench-") as name:
        folder = Path(name)
        broker = Mosquitto(folder) if kind == "mosquitto" else Iotcore()
        broker.start()
        hub = SmallHub(broker.settings)
        hub.start()
        journal = Journal.open(folder / "journal", GATEWAY, quota_bytes=2 << 30, keep_days=0)
        for start in range(0, events, 2000):
            tickets = [journal.append(tap(number)) for number in range(start, min(events, start + 2000))]
            tickets[-1].wait(60)
        print(f"{events} events wait in {journal.stats().bytes >> 20} MiB", file=sys.stderr)
        appended: dict[int, float] = {}
        drained = threading.Event()

        def tap_now_and_then() -> None:
            while not drained.wait(LIVE_PAUSE_SECONDS):
                started = time.monotonic()
                appended[journal.append(tap()).wait(30)] = started

        relay = Relay(journal, broker.settings, gateway_id=GATEWAY, site="st-marys")
        started = time.monotonic()
        relay.start()
        while relay.status().link != "online":
            time.sleep(0.01)
        thread = threading.Thread(target=tap_now_and_then)
        thread.start()
        while journal.acked < events:
            time.sleep(0.05)
        seconds = time.monotonic() - started
        drained.set()
        thread.join()
        head = journal.settle()
        while journal.acked < head:
            time.sleep(0.01)
        relay.stop()
        live_ms = sorted((hub.arrived_at[seq] - moment) * 1000 for seq, moment in appended.items() if seq > events)
        result = {
            "events": events,
            "broker": kind,
            "seconds": round(seconds, 1),
            "backlog_per_second": round(events / seconds),
            "live_taps": len(live_ms),
            "live_p50_ms": round(quantiles(live_ms, n=100)[49], 1),
            "live_p95_ms": round(quantiles(live_ms, n=100)[94], 1),
            "live_max_ms": round(live_ms[-1], 1),
            "lost": head - hub.count,
            "conflicts": len(hub.conflicts),
            "sent_again": sum(len(ways) - 1 for ways in hub.ways.values()),
        }
        journal.close()
        hub.stop()
        broker.stop()
        print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2] if len(sys.argv) > 2 else "mosquitto")
