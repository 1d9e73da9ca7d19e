"""Time from card to strike in the whole daemon on the virtual Pi, our driver and the mfrc522 library in turns.

The Pi costs 35 us a system call and 12 us a transfer, the radio takes its real time, and the strike is seen at the GPIO
registers from outside the daemon. The hub is away, which must not matter.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.bench.roster import sample_cards
from gateway.cards.identity import CardNumber, card_key
from gateway.errors import FatalError
from gateway.roster.file import RosterContent, build, rule_for_everyone
from gateway.roster.signing import Signer, Trust
from gateway.roster.store import RosterStore
from gateway.simulator.demo_site import fetch, free_port
from gateway.simulator.virtual_pi import VirtualPi, missing

CARDS = 20_000
STRIKE = 17
_SITE_KEY = bytes(32)
_TAPS, _ROUNDS = 100, 4
_PEER_TAPS = 40
_START_SECONDS = 30.0
_WAIT_SECONDS = 2.0


class DoorDaemon:
    """`tapgate run` on a virtual Pi with one reader at one door; ended by the Pi.

    Args:
        numbers: UIDs, four bytes each, that may pass.
    """

    def __init__(self, pi: VirtualPi, folder: Path, driver: str, numbers: Sequence[bytes], cards: int = 0) -> None:
        self._pi = pi
        entries = sample_cards(max(cards, 1))
        sample = next(iter(entries.values()))
        entries |= {card_key(_SITE_KEY, CardNumber("uid", number)): sample for number in numbers}
        signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
        store = RosterStore(folder / "state" / "roster", Trust(_SITE_KEY), "bench")
        store.load()
        if store.current is None:
            store.install(
                build(RosterContent("bench", 1, entries, {"front-door": rule_for_everyone()}), signer, _SITE_KEY)
            )
        (folder / "site.key").write_text(_SITE_KEY.hex(), encoding="ascii")
        self.address = f"http://127.0.0.1:{free_port(0)}"
        self.config = folder / "gateway.toml"
        self.config.write_text(_toml(driver, int(self.address.rpartition(":")[2])), encoding="utf-8")
        self.log = folder / "daemon.log"
        with self.log.open("ab") as log:
            self.process = pi.spawn([sys.executable, "-m", "gateway", "run", "--config", str(self.config)], stderr=log)

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait until the reader answers; returns the status as JSON.

        Raises:
            FatalError: the daemon ended or does not become ready.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            view = self.view()
            if view and all(row["state"] == "ready" for row in view["readers"]):
                return view
            time.sleep(0.05)
        raise FatalError(f"The daemon did not become ready: {self.log.read_text(encoding='utf-8')[-500:]}")

    def view(self) -> dict[str, Any] | None:
        """Return what the status page shows, None while it does not answer."""
        return fetch(f"{self.address}/v1/status")

    def tap_ms(self, number: bytes) -> float | None:
        """Hold a card up until the strike is asserted; None when it was not within two seconds."""
        entered_ns = self._pi.enter("spidev0.0", "classic_1k", number.hex())
        try:
            seen_ns = self._pi.gpio.wait_for(STRIKE, high=True, timeout_seconds=_WAIT_SECONDS)
        except TimeoutError:
            return None
        finally:
            self._pi.leave("spidev0.0")
        self._pi.gpio.wait_for(STRIKE, high=False, timeout_seconds=_WAIT_SECONDS)
        return (seen_ns - entered_ns) / 1e6


def _toml(driver: str, port: int) -> str:
    return f"""
[gateway]
id = "gw-door"
site = "bench"
state_dir = "state"
site_key_file = "site.key"
[hub]
url = "mqtt://127.0.0.1:9"
[web]
port = {port}
[[reader]]
id = "front-in"
driver = "{driver}"
port = "/dev/spidev0.0"
point = "front-door"
[[point]]
id = "front-door"
kind = "door"
strike_gpio = {STRIKE}
lock = "fail-secure"
egress = "mechanical"
contact_gpio = 27
rex_gpio = 22
unlock_seconds = 0.15
"""


def run_bench() -> dict[str, Any]:
    """Measure, in rounds that alternate between the two drivers.

    Raises:
        FatalError: this machine cannot be a virtual Pi.
    """
    if reason := missing():
        raise FatalError(f"This bench needs the virtual Pi, which {reason}.")
    draw = random.Random(4)
    numbers = [b"\x0b" + draw.randbytes(3) for _ in range(200)]
    ours: list[float | None] = []
    peer: list[float | None] = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(_ROUNDS):
            for driver, found, taps in (("rc522", ours, _TAPS), ("mfrc522", peer, _PEER_TAPS)):
                folder = Path(name) / f"{driver}-{number}"
                folder.mkdir()
                with _daemon(folder, driver, numbers) as door:
                    for number_held in draw.choices(numbers, k=taps // _ROUNDS):
                        found.append(door.tap_ms(number_held))
                        time.sleep(draw.uniform(0.08, 0.2))
    return {
        "name": "door",
        "unit": "ms from card in field to strike asserted",
        "ours": {"cards": CARDS, "taps": len(ours), **_spread(ours)},
        "peers": {"same daemon on mfrc522 0.0.7": {"taps": len(peer), **_spread(peer)}},
        "ratio": _ratio(ours, peer),
    }


@contextlib.contextmanager
def _daemon(folder: Path, driver: str, numbers: Sequence[bytes]) -> Iterator[DoorDaemon]:
    with VirtualPi() as pi:
        door = DoorDaemon(pi, folder, driver, numbers, CARDS)
        door.wait_until_ready()
        yield door


def _spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    ordered = sorted(value for value in values if value is not None)
    missed = len(values) - len(ordered)
    if not ordered:
        return {"missed": missed, "p50": None, "p99": None, "max": None}
    return {
        "missed": missed,
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max": round(ordered[-1], 2),
    }


def _ratio(ours: Sequence[float | None], peer: Sequence[float | None]) -> float | None:
    known, others = [value for value in ours if value is not None], [value for value in peer if value is not None]
    return round(statistics.median(others) / statistics.median(known), 1) if known and others else None
