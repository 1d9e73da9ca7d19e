"""`tapgate hub`: the hub daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.hub.app import ROLES, build
from gateway.hub.settings import read_settings
from gateway.service import run_service


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="hub.toml")
    parser.add_argument(
        "--role", choices=ROLES, default="all", help="what this process does; ingest may run many times"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    settings = read_settings(arguments.config)
    hub = build(settings, arguments.role)
    hub.start()
    if hub.web is not None:
        print(f"The hub's pages are at {hub.web.address}", flush=True)
    run_service(hub.beats, hub.stop, hub.status)
    return 0
