"""`tapgate web`: serves the gateway's pages in a process of its own.

It needs no configuration, no key and no device: everything it shows comes from the daemon over one Unix socket.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from gateway.edge.panel.client import Panel
from gateway.edge.web.face import WebFace
from gateway.service import Beats, run_service

PANEL = Path("/run/tapgate-panel/panel.sock")
_LOST_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--panel", type=Path, default=PANEL, metavar="SOCKET", help=f"the daemon's socket ({PANEL})")
    parser.add_argument(
        "--once", action="store_true", help="exit when the daemon does; `tapgate run` starts it this way"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    panel = Panel(arguments.panel)
    face = WebFace(panel, panel.start())
    face.start()
    print(f"The gateway's pages are at {face.server.address}", flush=True)
    beats = Beats()
    if arguments.once:
        threading.Thread(target=_end_with_daemon, args=(panel,), name="parent", daemon=True).start()
    try:
        run_service(beats, face.stop, lambda: f"pages at {face.server.address}")
    finally:
        panel.stop()
    return 0


def _end_with_daemon(panel: Panel) -> None:
    panel.wait_until_lost(_LOST_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
