"""Owns one reader as the daemon does and prints what it says: `python owner.py DRIVER PORT [OPTIONS AS JSON]`.

Each line is one JSON object: an event with `kind`, `ns` and, for tests only, `uid`; or `state` after a change.
"""

from __future__ import annotations

import json
import sys
import time

from gateway.errors import ReaderOffline
from gateway.readers.base import CardRead, CardRefused, make_reader, parse_options
from gateway.transports.real import RealTransports


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main(driver: str, port: str, options: str = "{}") -> None:
    problems: list[tuple[str, str]] = []
    parsed = parse_options(driver, json.loads(options), lambda *problem: problems.append(problem))
    assert not problems, problems
    reader = make_reader(driver, "lane-1", port, parsed, RealTransports())
    while True:
        try:
            reader.open()
            say(kind="state", state=reader.vitals.state, detail=reader.vitals.detail)
            while True:
                for event in reader.poll():
                    uid = event.number.value.hex() if isinstance(event, CardRead) else ""
                    reason = event.reason if isinstance(event, CardRefused) else ""
                    say(kind=type(event).__name__, ns=event.seen_ns, uid=uid, reason=reason)
                time.sleep(reader.pause_seconds)
        except ReaderOffline as error:
            say(kind="offline", detail=str(error))
            reader.close()
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
