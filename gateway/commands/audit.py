"""`tapgate audit verify`: whether every line of the hub's audit log is as it was written."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path

from gateway.commands.hub import CONFIG
from gateway.errors import ConfigError
from gateway.hub.settings import look_at_store, read_settings
from gateway.hub.store.audit import verify

GOOD, FINDINGS = 0, 1
_FORM = "SITE=LINES:HASH"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("verify",), help="compare every line with its hash; exit 1 when one differs")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"hub.toml (default {CONFIG})")
    parser.add_argument(
        "--expect",
        nargs="+",
        default=[],
        metavar=_FORM,
        help="newest lines as noted earlier, site empty for the hub's own; exit 1 when one is not there any more",
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Verify every chain, and print the newest hash of each, to be noted elsewhere."""
    settings = read_settings(arguments.config)
    noted = dict(_noted(text) for text in arguments.expect)
    with look_at_store(settings) as store, store.read() as connection:
        chains = verify(connection, noted)
    for chain in chains:
        name = chain.site or "the hub"
        if chain.fault is None:
            print(f"{name}: {chain.lines} lines are as they were written")
            print(f"  newest: {chain.site}={chain.lines}:{chain.head}")
        else:
            print(f"{name}: {chain.fault} The {chain.lines} lines before are as they were written.")
    if not chains:
        print("Nothing has been written yet.")
    is_good = all(chain.fault is None for chain in chains)
    if arguments.json:
        print(json.dumps({"ok": is_good, "chains": [asdict(chain) for chain in chains]}))
    return GOOD if is_good else FINDINGS


def _noted(text: str) -> tuple[str, tuple[int, str]]:
    found = re.fullmatch(r"([A-Za-z0-9_-]*)=([0-9]{1,15}):([0-9a-f]{64})", text)
    if found is None:
        raise ConfigError([f"audit:0: --expect: must be {_FORM} as this verb prints it."])
    return found[1], (int(found[2]), found[3])
