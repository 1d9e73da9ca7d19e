"""`tapgate bench NAME`: measures our code and a peer's in one interleaved run on this machine."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError

# Each module has `run_bench() -> dict` with name, unit, ours, peers and ratio.
BENCHES = {
    "reader": "gateway.bench.reader",
    "journal": "gateway.bench.journal",
    "door": "gateway.bench.door",
    "decision": "gateway.bench.decision",
    "roster": "gateway.bench.roster",
    "ingest": "gateway.bench.ingest",
    "revoke": "gateway.bench.revoke",
    "siege": "gateway.bench.siege",
    "search": "gateway.bench.search",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("name", choices=sorted(BENCHES), help="what to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--taps",
        type=int,
        help="taps per figure, for the bench reader; the published figures use 500 (an hour with peers)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run one bench and print its figures.

    Raises:
        ConfigError: --taps for a bench that holds no cards to a reader, or none at all.
    """
    size = {}
    if arguments.taps is not None:
        if arguments.name != "reader" or arguments.taps < 1:
            raise ConfigError(["bench:0: --taps: must be at least 1, and only the bench `reader` takes it"])
        size["taps"] = arguments.taps
    result: dict[str, Any] = importlib.import_module(BENCHES[arguments.name]).run_bench(**size)
    result.setdefault("machine", describe_machine())
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(f"{result['name']} ({result['unit']}) on {result['machine']}")
    for who, figures in {"ours": result["ours"], **result["peers"]}.items():
        print(f"  {who}")
        for key, value in figures.items():
            print(f"    {key:<44} {value}")
    print(f"  ratio {result['ratio']}")
    return 0


def describe_machine() -> str:
    """Return processor, kernel and interpreter, because figures mean nothing without them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    # `model name` on a PC, `Model` on a Raspberry Pi.
    model = fields.get("model name") or fields.get("Model") or platform.machine()
    cores = os.cpu_count()
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"
