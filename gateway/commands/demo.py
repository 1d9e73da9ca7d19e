"""`tapgate demo`: a whole school on one machine.

Two gateways with RC522 and serial readers run the real drivers against emulated chips, beside an embedded broker, a hub
and a sample MIS. Cards are held up, every tap is followed to the hub's database, and the end result counts what was
tapped against what the hub holds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cards.identity import CardNumber, card_key
from gateway.cards.uid import Uid
from gateway.config import read_site_key
from gateway.errors import FatalError
from gateway.link.embedded import EmbeddedBroker
from gateway.simulator.demo_site import (
    GATEWAYS,
    GatewayProcess,
    HubProcess,
    HubRecord,
    free_port,
    read_hub,
    wait_until_ready,
    write_site,
)
from gateway.simulator.school import School, sample_school

COMMIT_SECONDS = 60.0
_TAPS_PER_SECOND = 6.0
_DWELL_MS = 120
_SHOWN = 12


@dataclass(slots=True)
class Tally:
    """Counts of taps and of the gateways' decisions."""

    sent: int = 0
    done: int = 0
    taps: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    unread_taps: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    uid_ms: list[float] = field(default_factory=list)

    @property
    def unread(self) -> int:
        return self.unread_taps.total()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--seconds", type=float, help="stop tapping after this time (default: until Ctrl-C)")
    parser.add_argument("--taps", type=int, help="stop after this many taps")
    parser.add_argument("--pupils", type=int, default=2000, help="size of the school (default 2000)")
    parser.add_argument("--port", type=int, default=8080, help="first port for the pages (default 8080)")
    parser.add_argument(
        "--outage", type=float, help="kill the hub halfway through and keep it down for this many seconds"
    )
    parser.add_argument("--broker", help="use this broker, such as mqtt://127.0.0.1:1883, instead of the embedded one")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--keep", type=Path, help="keep configuration, journals and database in this folder")
    parser.add_argument("--seed", type=int, default=1, help="seed for which cards are tapped, and where")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; exit code 0 when nothing was lost or counted twice, 1 otherwise."""
    school = sample_school(arguments.pupils)
    # SIGTERM ends the demo as Ctrl-C does, with everything it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder(arguments.keep))
        broker_url = arguments.broker
        if not broker_url:
            broker = stack.enter_context(EmbeddedBroker())
            broker_url = broker.url
        ports = [free_port(arguments.port + number if arguments.port else 0) for number in range(1 + len(GATEWAYS))]
        write_site(folder, school, broker_url, ports)
        show = _Display(quiet=arguments.json)
        show.say(f"Starting a hub, {len(GATEWAYS)} gateways and a school of {len(school.people)} people ...")
        hub = HubProcess(folder, ports[0])
        stack.callback(hub.stop)
        hub.start()
        gateways = [GatewayProcess(folder, plan, port) for plan, port in zip(GATEWAYS, ports[1:], strict=True)]
        for gateway in gateways:
            stack.callback(gateway.end)
        wait_until_ready(hub, gateways)
        show.say(f"  hub        {hub.address}   logbook, gateways, people")
        for gateway in gateways:
            show.say(f"  {gateway.plan.id:10} {gateway.address}   status")
        school_day = _SchoolDay(arguments, school, hub, gateways, show, read_site_key(folder / "site.key"))
        with contextlib.suppress(KeyboardInterrupt):
            school_day.run()
        show.say("Tapping is finished; waiting for the hub to receive everything ...")
        record = _wait_for_commit(folder, school_day.tally.taps, hub)
        for gateway in gateways:
            gateway.end()
        result = _result(school_day.tally, record, gateways)
    _report(result, as_json=arguments.json)
    return 0 if result["lost"] == 0 and result["duplicated"] == 0 else 1


class _SchoolDay:
    """Taps cards at every reader until the time or the number of taps is reached."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        school: School,
        hub: HubProcess,
        gateways: list[GatewayProcess],
        show: _Display,
        site_key: bytes,
    ) -> None:
        self.tally = Tally()
        self._limit_seconds, self._limit_taps = arguments.seconds, arguments.taps
        self._outage_seconds = arguments.outage
        self._hub, self._gateways, self._show, self._site_key = hub, gateways, show, site_key
        self._draw = random.Random(arguments.seed)
        self._cards = [uid for _, uid in school.cards()]
        self._readers = [(gateway, reader) for gateway in gateways for reader in gateway.plan.readers]
        self._last: dict[str, Uid | None] = {}
        self._keys: dict[int, tuple[str, str | None]] = {}
        self._hub_back_at: float | None = None
        self._outage_over = not arguments.outage

    def run(self) -> None:
        started = time.monotonic()
        while not self._is_over(time.monotonic() - started):
            self._break_hub(time.monotonic() - started)
            self._send()
            self._collect()
            self._show.progress(self.tally, self._gateways, self._hub_back_at is not None)
            time.sleep(self._draw.uniform(0.5, 1.5) / _TAPS_PER_SECOND)
        if self._hub_back_at is not None:
            self._hub.start()
            self._hub_back_at = None
        deadline = time.monotonic() + 10
        while self.tally.done + self.tally.unread < self.tally.sent and time.monotonic() < deadline:
            self._collect()
            time.sleep(0.02)

    def _is_over(self, seconds: float) -> bool:
        if self._limit_taps is not None and self.tally.sent >= self._limit_taps:
            return True
        return self._limit_seconds is not None and seconds >= self._limit_seconds

    def _break_hub(self, seconds: float) -> None:
        if self._hub_back_at is not None and seconds >= self._hub_back_at:
            self._hub.start()
            self._hub_back_at = None
            self._show.say("The hub is back; the gateways are sending their backlog.")
        half = (self._limit_seconds or 30.0) / 2 - (self._outage_seconds or 0) / 2
        if not self._outage_over and seconds >= half:
            self._outage_over = True
            self._hub.kill()
            self._hub_back_at = seconds + self._outage_seconds
            self._show.say(f"The hub has been killed for {self._outage_seconds:g} s; doors and lanes keep working.")

    def _send(self) -> None:
        gateway, reader = self._draw.choice(self._readers)
        uid = self._pick(reader.driver)
        while uid is not None and uid == self._last.get(reader.id):
            uid = self._pick(reader.driver)
        self._last[reader.id] = uid
        self.tally.sent += 1
        key = None if uid is None else card_key(self._site_key, CardNumber.of_uid(uid)).hex()
        self._keys[self.tally.sent] = (reader.id, key)
        wish = {"n": self.tally.sent, "reader": reader.id, "uid": uid.raw.hex() if uid else None, "dwell_ms": _DWELL_MS}
        gateway.tap(wish)

    def _pick(self, driver: str) -> Uid | None:
        """Draw a card: mostly one of the school, now and then an unknown card or a phone."""
        chance = self._draw.random()
        if chance < 0.03:
            return Uid(b"\x04" + self._draw.randbytes(6))
        if chance < 0.05 and driver == "rc522":
            return None
        return self._draw.choice(self._cards)

    def _collect(self) -> None:
        for gateway in self._gateways:
            while not gateway.answers.empty():
                answer = gateway.answers.get()
                if not answer["read"]:
                    self.tally.unread_taps[self._keys[answer["n"]]] += 1
                    continue
                self.tally.done += 1
                self.tally.taps[self._keys[answer["n"]]] += 1
                if gateway.plan.id != "gw-front" or answer["reader"] != "front-in":
                    self.tally.uid_ms.append(answer["uid_ms"])


class _Display:
    """Prints progress; a terminal keeps one status line at the bottom."""

    def __init__(self, *, quiet: bool) -> None:
        # With --json the last line of standard output is the result, so progress goes to standard error.
        self._stream = sys.stderr if quiet else sys.stdout
        self._live = self._stream.isatty()
        self._shown_at = 0.0
        self._views: list[dict[str, Any] | None] = []

    def say(self, text: str) -> None:
        self._stream.write(("\r\x1b[K" if self._live else "") + text + "\n")
        self._stream.flush()

    def progress(self, tally: Tally, gateways: list[GatewayProcess], hub_is_down: bool) -> None:
        now = time.monotonic()
        if not self._live or now - self._shown_at < 0.5:
            return
        self._shown_at = now
        views = [gateway.view() for gateway in gateways]
        waiting = sum(view["waiting"] for view in views if view)
        granted = sum(view["granted"] for view in views if view)
        denied = sum(view["denied"] for view in views if view)
        hub = "hub DOWN" if hub_is_down else "hub up"
        uid = f", card to UID {_spread(tally.uid_ms)['p50']:.1f} ms" if tally.uid_ms else ""
        line = f"{tally.done} taps: {granted} granted, {denied} denied, {waiting} waiting for the hub{uid}, {hub}"
        self._stream.write(f"\r\x1b[K{line}   (Ctrl-C ends)")
        self._stream.flush()


def _wait_for_commit(folder: Path, taps: Counter[tuple[str, str | None]], hub: HubProcess) -> HubRecord:
    deadline = time.monotonic() + COMMIT_SECONDS
    record = read_hub(folder)
    # Not by their number: a tap that counts as unread may be there before the last one is.
    while taps - record.taps and time.monotonic() < deadline and hub.ended() is None:
        time.sleep(0.1)
        record = read_hub(folder)
    return record


def _result(tally: Tally, record: HubRecord, gateways: list[GatewayProcess]) -> dict[str, Any]:
    output_ms = [us / 1000 for gateway in gateways for us in gateway.figures.get("output_us", [])]
    answered_ms = [us / 1000 for gateway in gateways for us in gateway.figures.get("answered_us", [])]
    views = [view for gateway in gateways if (view := gateway.last_view) is not None]
    return {
        "taps": tally.done,
        "granted": sum(view["granted"] for view in views),
        "denied": sum(view["denied"] for view in views),
        "committed": record.count,
        "lost": sum((tally.taps - record.taps).values()),
        # A card that counts as unread may have been read a moment later all the same.
        "duplicated": sum((record.taps - tally.taps - tally.unread_taps).values()),
        "unread": tally.unread,
        "tap_to_uid_ms": _spread(tally.uid_ms),
        "uid_to_output_ms": _spread(output_ms),
        "uid_to_recorded_answer_ms": _spread(answered_ms),
        "tap_to_commit_ms": _spread(record.commit_ms),
        "people": record.people,
        "gateways": len(gateways),
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
    }


def _report(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    verdict = "nothing lost, nothing twice" if not result["lost"] and not result["duplicated"] else "NOT GOOD"
    print(f"\n{result['taps']} taps by {result['people']} people at {result['gateways']} gateways: {verdict}.")
    for key, value in result.items():
        shown = f"p50 {value['p50']}, p99 {value['p99']}" if isinstance(value, dict) else value
        print(f"  {key:<26} {shown}")


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise FatalError(f"{keep} is not empty; choose a new folder, because the demo makes a new site key.")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="tapgate-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
