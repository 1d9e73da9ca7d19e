"""`tapgate readers list|test|trace|replay`: what is plugged in and configured, one reader on the bench, recordings.

Run `test` with the daemon stopped: a reader has one owner, and says so. Card numbers show their last two bytes only.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.config import GatewaySettings, ReaderSettings, load_gateway
from gateway.edge.options import reader_options
from gateway.errors import ConfigError, MissingExtra, ReaderOffline
from gateway.readers.base import (
    DRIVERS,
    CardGone,
    CardRead,
    CardRefused,
    CardSuspicion,
    Reader,
    ReaderEvent,
    ReaderNotice,
    make_reader,
)
from gateway.readers.masking import MASKED_DRIVERS, mask, play
from gateway.readers.vital_signs import score
from gateway.transports.real import RealTransports
from gateway.transports.trace import Recorder, load

_DROPS_REPORTED = 100
EXIT_GOOD, EXIT_FINDINGS, EXIT_FAILED = 0, 1, 3
_PLACES = (
    "/dev/spidev*",
    "/dev/serial/by-id/*",
    "/dev/serial/by-path/*",
    "/dev/tapgate/usb-*",
    "/dev/ttyUSB*",
    "/dev/ttyACM*",
    "/dev/ttyAMA*",
    "/dev/serial[0-9]",
    "/dev/input/by-id/*-event-kbd",
    "/dev/input/by-path/*-event-kbd",
    "/dev/gpiochip*",
)
_BY_ID = "/by-id/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list this machine's ports and the configured readers")
    listing.add_argument("--config", type=Path, help="a gateway.toml")
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    test = actions.add_parser("test", help="open one reader, show what it reads and how healthy it is")
    test.add_argument("reader", help="the reader's id in the configuration")
    test.add_argument("--config", type=Path, required=True, help="a gateway.toml")
    test.add_argument("--seconds", type=float, default=15.0, help="how long to wait for cards")
    test.add_argument("--self-test", action="store_true", help="also run the chip's self-test, if it has one")
    test.add_argument("--json", action="store_true", help="end with one JSON object")
    trace = actions.add_parser("trace", help="record the traffic between a reader and its driver")
    trace.add_argument("reader", help="the reader's id in the configuration")
    trace.add_argument("--config", type=Path, required=True, help="a gateway.toml")
    trace.add_argument("--seconds", type=float, default=15.0, help="how long to record")
    trace.add_argument("--out", type=Path, required=True, help="output file; its card numbers are made up")
    replay = actions.add_parser("replay", help="run a driver on a recording")
    replay.add_argument("file", type=Path, help="what trace has written")


def run(arguments: argparse.Namespace) -> int:
    """Run one action; 1 when the reader works but needs attention."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "test": _test,
        "trace": _trace,
        "replay": _replay,
    }
    return actions[arguments.action](arguments)


def _load(path: Path) -> tuple[GatewaySettings, dict[str, Any]]:
    settings = load_gateway(path, tuple(DRIVERS))
    options = reader_options(settings)
    settings.file.finish()
    return settings, options


def _ports() -> list[str]:
    """Return a stable name of each port, one a device.

    Adapters with one serial number share a name under by-id, which then leads to one of them only: both are named by
    the socket they are plugged into.
    """
    names: dict[str, list[str]] = {}
    for pattern in _PLACES:
        folder, _, name = pattern.rpartition("/")
        for path in sorted(Path(folder).glob(name)):
            names.setdefault(str(path.resolve()), []).append(str(path))
    # A USB device of the same kind without a name under by-id has lost it to a twin.
    twins = {Path(device).name.rstrip("0123456789") for device, paths in names.items() if _has_lost_its_id(paths)}
    found = []
    for device, paths in names.items():
        by_id = [path for path in paths if _BY_ID in path]
        by_socket = [path for path in paths if _BY_ID not in path and path != device]
        is_twin = Path(device).name.rstrip("0123456789") in twins
        found.append(next(iter((by_socket + by_id if is_twin else by_id + by_socket) or paths)))
    return sorted(found)


def _has_lost_its_id(paths: list[str]) -> bool:
    return not any(_BY_ID in path for path in paths) and any("-usb-" in Path(path).name for path in paths)


def _list(arguments: argparse.Namespace) -> int:
    readers: list[dict[str, Any]] = []
    if arguments.config:
        settings, _ = _load(arguments.config)
        readers = [
            {
                "id": item.id,
                "driver": item.driver,
                "port": item.port,
                "point": item.point,
                "present": not item.port.startswith("/") or Path(item.port).exists(),
            }
            for item in settings.readers
        ]
    drivers, ports = sorted(DRIVERS), _ports()
    if arguments.json:
        print(json.dumps({"drivers": drivers, "ports": ports, "readers": readers}))
    else:
        print("drivers:", ", ".join(drivers))
        print("ports:  ", ", ".join(ports) or "none found")
        for item in readers:
            state = "" if item["present"] else "  (the port is missing)"
            print(f"{item['id']:<20} {item['driver']:<12} {item['port']} -> {item['point']}{state}")
    return EXIT_GOOD if all(item["present"] for item in readers) else EXIT_FINDINGS


def _test(arguments: argparse.Namespace) -> int:
    item, options = _find(arguments)
    show = (lambda _text: None) if arguments.json else print
    report: dict[str, Any] = {
        "reader": item.id,
        "driver": item.driver,
        "port": item.port,
        "reads": 0,
        "refused": 0,
        "dropped": [],
        "problem": None,
    }
    code = EXIT_GOOD
    try:
        reader = make_reader(item.driver, item.id, item.port, options, RealTransports())
        code = _watch(reader, arguments, report, show)
    except (ReaderOffline, MissingExtra) as error:
        report["problem"] = str(error)
        show(str(error))
        code = EXIT_FAILED
    if arguments.json:
        print(json.dumps(report))
    return code


def _find(arguments: argparse.Namespace) -> tuple[ReaderSettings, Any]:
    settings, options = _load(arguments.config)
    for item in settings.readers:
        if item.id == arguments.reader:
            return item, options[item.id]
    names = ", ".join(item.id for item in settings.readers) or "none"
    raise ConfigError([f"{arguments.config}:1: reader: there is no reader {arguments.reader!r}; there are {names}"])


def _trace(arguments: argparse.Namespace) -> int:
    item, options = _find(arguments)
    if item.driver not in MASKED_DRIVERS:
        known = ", ".join(MASKED_DRIVERS)
        raise ConfigError([f"{arguments.config}:1: driver: {item.driver} cannot be recorded; choose one of: {known}"])
    raw = io.StringIO()
    recorder = Recorder(RealTransports(), raw, item.driver, dict(item.options))
    reader = make_reader(item.driver, item.id, item.port, options, recorder)
    numbers: list[bytes] = []
    try:
        reader.open()
        print(f"recording {reader.name} for {arguments.seconds:g} s; hold cards to it one at a time")
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            events = reader.poll()
            numbers += [event.number.value for event in events if isinstance(event, CardRead)]
            time.sleep(reader.pause_seconds)
    except ReaderOffline as error:
        # This may be the very fault that is being looked for.
        print(f"the reader is gone: {error}")
    finally:
        reader.close()
    masked = mask([json.loads(line) for line in raw.getvalue().splitlines()], numbers)
    lines = [json.dumps(record, separators=(",", ":")) for record in masked]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(masked)} steps, {len(numbers)} cards, card numbers replaced by made-up ones")
    return EXIT_GOOD


def _replay(arguments: argparse.Namespace) -> int:
    events, vitals = play(load(arguments.file))
    for event in events:
        print(_sentence(event))
    if vitals.detail:
        print(f"the reader is gone: {vitals.detail}")
    print(f"{vitals.polls} polls, {vitals.retries} retries, {vitals.errors} errors, {vitals.resets} resets")
    return EXIT_GOOD


def _watch(reader: Reader, arguments: argparse.Namespace, report: dict[str, Any], show: Callable[[str], object]) -> int:
    try:
        reader.open()
        show(f"{reader.name} is ready: {reader.vitals.detail}")
        if arguments.self_test:
            report["self_test"] = passed = _self_test(reader)
            words = {True: "passed", False: "FAILED", None: "has no published answer for this reader"}
            show(f"self-test {words[passed]}")
        show(f"hold a card to it; {arguments.seconds:g} s")
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            events = reader.poll()
            for drop in _drops(reader):
                report["dropped"].append(drop)
                show(f"no card: {drop}")
            for event in events:
                report["reads"] += isinstance(event, CardRead)
                report["refused"] += isinstance(event, CardRefused)
                show(_sentence(event))
            time.sleep(reader.pause_seconds)
    finally:
        reader.close()
        report["vitals"] = asdict(reader.vitals)
    vitals = reader.vitals
    show(f"{vitals.polls} polls, {vitals.retries} retries, {vitals.errors} errors, {vitals.resets} resets")
    if not (report["reads"] or report["refused"] or vitals.dropped):
        show(
            "nothing received: was a card held to the reader? Is this its port? A reader that must be polled (twn4, "
            "pn532, sl500) sends nothing to drivers of readers that send unprompted"
        )
    judged = score(vitals)
    report["score"] = judged.points
    show(f"score {judged.points} of 100" + (f": {judged.advice}" if judged.advice else ""))
    report["dropped"] = report["dropped"][-_DROPS_REPORTED:]
    is_good = not (vitals.errors or vitals.resets or vitals.refused) and report.get("self_test") is not False
    return EXIT_GOOD if is_good else EXIT_FINDINGS


def _drops(reader: Reader) -> list[str]:
    """Return what the reader has dropped since the last call; chip drivers drop nothing that could be reported."""
    take: Callable[[], list[str]] | None = getattr(reader, "take_drops", None)
    return take() if take else []


def _self_test(reader: Reader) -> bool | None:
    test: Callable[[], bool | None] | None = getattr(reader, "self_test", None)
    return test() if test else None


def _sentence(event: ReaderEvent) -> str:
    if isinstance(event, CardRead):
        number = event.number
        return f"card read: {event.card_type}, {len(number.value)} bytes ({number.projection}), ends in {number.tail}"
    if isinstance(event, CardGone):
        return "card gone"
    if isinstance(event, ReaderNotice):
        return f"{event.state.replace('_', ' ')}: {event.detail}"
    if isinstance(event, CardSuspicion):
        return f"the card that ends in {event.tail} may be a copy: {event.sign.replace('_', ' ')}"
    return f"card refused: {event.reason}: {event.detail}"
