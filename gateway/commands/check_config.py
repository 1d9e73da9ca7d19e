"""`tapgate check-config FILE`: all errors of a configuration at once, as `file:line: key: message`.

Warnings are printed and make the exit code 1, but do not stop a daemon from starting.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from gateway.config import load_gateway, read_site_key
from gateway.edge.dangers import note_dangers
from gateway.edge.options import reader_options
from gateway.errors import TapgateError
from gateway.readers.base import DRIVERS
from gateway.toml_help import read_marked_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("file", type=Path, help="a gateway.toml, hub.toml or agent.toml")


def run(arguments: argparse.Namespace) -> int:
    """Check the file and raise every error in one ConfigError."""
    path: Path = arguments.file
    root = _root_of(path)
    if _is_hub(root):
        return _check_hub(path)
    if "agent" in root and "gateway" not in root:
        return _check_agent(path)
    settings = load_gateway(path, tuple(DRIVERS))
    reader_options(settings)
    note_dangers(settings)
    settings.file.finish()
    for warning in settings.file.warnings:
        print(f"warning: {warning}")
    read_site_key(settings.site_key_file)
    print(f"{path}: OK; {len(settings.readers)} readers at {len(settings.points)} points.")
    return 1 if settings.file.warnings else 0


def _check_hub(path: Path) -> int:
    # Only a hub has the packages that its own settings need.
    from gateway.hub.directory.changes import list_changes
    from gateway.hub.settings import look_at_store, read_settings

    hub = read_settings(path)
    for site in hub.sites:
        read_site_key(site.site_key_file)
    for warning in hub.file.warnings:
        print(f"warning: {warning}")
    print(f"{path}: OK; {len(hub.sites)} sites, {sum(len(site.sources) for site in hub.sites)} sources.")
    try:
        with look_at_store(hub) as store, store.read() as connection:
            changes = list_changes(connection, hub)
    except TapgateError as error:
        print(f"What the hub would change at its next start cannot be shown: {error}")
    else:
        for change in changes:
            print(f"at the next start: {change}")
    return 1 if hub.file.warnings else 0


def _check_agent(path: Path) -> int:
    from gateway.agent.settings import load_agent

    agent = load_agent(path)
    read_site_key(agent.site_key_file)
    agent.token()
    print(f"{path}: OK; {agent.kind} is read for {agent.site}/{agent.source}. `tapgate agent check` tries it.")
    return 0


def _root_of(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_marked_text(path))
    except (OSError, ValueError, RecursionError):
        # The loader of a gateway's settings says what is wrong.
        return {}


def _is_hub(root: dict[str, Any]) -> bool:
    hub = root.get("hub")
    return "gateway" not in root and ("site" in root or (isinstance(hub, dict) and "broker" in hub))
