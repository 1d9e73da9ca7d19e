"""`tapgate run`: the gateway daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.readers.base import DRIVERS
from gateway.service import StopSignal, run_service
from gateway.transports.real import RealTransports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--pages",
        choices=("child", "elsewhere"),
        default="child",
        help="serve the pages from a child process, or leave them to tapgate-web.service",
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/tapgate/gateway.toml"), help="the gateway.toml")


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    # From here on a signal stops the daemon cleanly, so that no claimed strike is left as it is.
    stop_signal = StopSignal()
    try:
        gateway = Gateway(load_gateway(arguments.config, tuple(DRIVERS)), RealTransports())
        gateway.start(pages=arguments.pages)
    except BaseException:
        stop_signal.restore()
        raise
    run_service(gateway.beats, gateway.stop, gateway.status_line, stop_signal)
    return 0
