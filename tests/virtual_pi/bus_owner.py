"""Owns the readers of one bus as the daemon does: `python bus_owner.py OPTIONS-AS-JSON PORT...`.

Prints one JSON object a line: an event with `kind`, `reader`, `ns` and, for tests only, `uid`; a `note` of a reader's
state. Runs until its standard input is closed.
"""

from __future__ import annotations

import json
import sys

from gateway.edge.buses import BusThread
from gateway.readers.base import CardRead, ReaderEvent, make_reader, parse_options
from gateway.service import Beats
from gateway.transports.real import RealTransports


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def handle(event: ReaderEvent) -> None:
    uid = event.number.value.hex() if isinstance(event, CardRead) else ""
    say(kind=type(event).__name__, reader=event.reader, ns=event.seen_ns, uid=uid)


def main(options: str, *ports: str) -> None:
    problems: list[tuple[str, str]] = []
    parsed = parse_options("rc522", json.loads(options), lambda *problem: problems.append(problem))
    assert not problems, problems
    readers = [make_reader("rc522", port, f"/dev/{port}", parsed, RealTransports()) for port in ports]
    bus = BusThread("spi0", readers, handle, lambda name, state, _why: say(kind=state, reader=name), Beats())
    bus.start()
    sys.stdin.read()
    bus.stop()
    say(kind="stopped", resets=[reader.vitals.resets for reader in readers], reader="")


if __name__ == "__main__":
    main(*sys.argv[1:])
