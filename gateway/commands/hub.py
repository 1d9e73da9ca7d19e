"""`tapgate hub`: the hub daemon and its set-up: init, issue, revoke, gateways."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.errors import ConfigError

CONFIG = Path("/etc/tapgate-hub/hub.toml")
ROLES = ("all", "ingest", "web", "sync")
_ACTIONS = {
    "run": "run the daemon (the default)",
    "init": "create the certificate authority, all keys, hub.toml and the broker's files; keeps existing ones",
    "issue": "enrol a gateway, named SITE/GATEWAY, and create its bundle",
    "revoke": "revoke the enrolment of a gateway, named SITE/GATEWAY",
    "gateways": "list the enrolled gateways",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    parser.add_argument("action", nargs="?", choices=tuple(_ACTIONS), default="run", help=words)
    parser.add_argument("name", nargs="?", metavar="SITE/GATEWAY", help="issue, revoke: the gateway")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"hub.toml (default {CONFIG})")
    parser.add_argument(
        "--role", choices=ROLES, default="all", help="run: the role of this process; ingest may run several times"
    )
    setup = parser.add_argument_group("init")
    setup.add_argument("--address", metavar="HOST", help="name or address where gateways reach this hub")
    setup.add_argument("--site", metavar="ID", help="the first school's id, such as st-marys")
    setup.add_argument("--site-name", metavar="TEXT", help="its name (default: the id)")
    setup.add_argument("--state-dir", type=Path, default=Path("/var/lib/tapgate-hub"), help="keys and database")
    setup.add_argument("--broker-dir", type=Path, default=Path("/etc/mosquitto"), help="mosquitto's folder")
    issue = parser.add_argument_group("issue")
    issue.add_argument("--out", type=Path, metavar="FILE", help="the bundle (default: SITE-GATEWAY.tar here)")


def run(arguments: argparse.Namespace) -> int:
    """Run the daemon until SIGTERM or SIGINT, or one step of the set-up."""
    if arguments.action != "run":
        # Only the set-up needs the certificate authority.
        from gateway.commands import hub_setup

        return hub_setup.run(arguments)
    if arguments.name is not None:
        raise ConfigError([f"hub:0: {arguments.name}: is not an action; known are {', '.join(_ACTIONS)}."])
    from gateway.hub.app import build
    from gateway.hub.settings import read_settings
    from gateway.service import run_service

    settings = read_settings(arguments.config)
    hub = build(settings, arguments.role)
    hub.start()
    if hub.web is not None:
        print(f"The hub's pages are at {hub.web.address}", flush=True)
    elif hub.web_fault is not None:
        print(f"{hub.web_fault} Everything else runs; the pages come back at the next start.", file=sys.stderr)
    run_service(hub.beats, hub.stop, hub.status)
    return 0
