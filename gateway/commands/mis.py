"""`tapgate mis check|preview|sync`: try a source, see what a sync would do, do it; with the hub stopped or running."""

from __future__ import annotations

import argparse
import getpass
import json
import os
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError, SourceRefused, SourceUnreachable
from gateway.hub.directory.cards import by_hand
from gateway.hub.directory.sites import Source, connect, list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store.engine import Store
from gateway.hub.sync.run import Report, preview, sync

GOOD, FINDINGS, FAILED = 0, 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("check", "preview", "sync"))
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="hub.toml")
    parser.add_argument("--site", required=True, metavar="ID")
    parser.add_argument("--source", required=True, metavar="NAME")
    parser.add_argument("--approve", metavar="HASH", help="sync: apply the held plan of this hash too")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run one action on one source."""
    settings = read_settings(arguments.config)
    store = prepare_store(settings)
    try:
        source = _find(store, arguments)
        base = settings.file.path.parent
        if arguments.action == "check":
            return _check(source, base, arguments.json)
        try:
            if arguments.action == "preview":
                report = preview(store, source, base)
            else:
                report = sync(store, source, base, arguments.approve, by_hand(_who()))
        except (SourceRefused, SourceUnreachable) as error:
            failure = error.failure if isinstance(error, SourceRefused) else "unreachable"
            return _fail(failure, str(error), arguments.json)
        _print(report, source, arguments)
        clean = report.feed.complete and not (report.held or report.plan.conflicts or report.feed.unreadable)
        return GOOD if clean else FINDINGS
    finally:
        store.close()


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as containers have them.
        return f"uid {os.getuid()}"


def _find(store: Store, arguments: argparse.Namespace) -> Source:
    with store.read() as connection:
        found = list_sources(connection, arguments.site, arguments.source)
        known = [source.label for source in list_sources(connection)]
    if not found:
        known_text = ", ".join(known) or "none"
        raise ConfigError(
            [f"{arguments.config}:0: site.source: there is no {arguments.site}/{arguments.source}; known: {known_text}"]
        )
    return found[0]


def _check(source: Source, base: Path, as_json: bool) -> int:
    result = connect(source, base).check()
    print(result.detail if result.ok else f"{result.failure}: {result.detail}")
    if as_json:
        _print_json({"ok": result.ok, "failure": result.failure, "detail": result.detail})
    return GOOD if result.ok else FAILED


def _fail(failure: str, detail: str, as_json: bool) -> int:
    print(f"{failure}: {detail}")
    if as_json:
        _print_json({"ok": False, "failure": failure, "detail": detail})
    return FAILED


def _print(report: Report, source: Source, arguments: argparse.Namespace) -> None:
    for item in report.feed.unreadable:
        print(f"{item.place}: {item.why}")
    for conflict in report.plan.conflicts:
        print(f"{conflict.place}: {conflict.kind}: {conflict.why}")
    for text in report.plan.notices:
        print(f"notice: {text}")
    found = report.as_json()
    cards = found["cards"]
    print(
        f"{source.label}: read {found['read']}, create {found['create']}, update {found['update']}, "
        f"remove {found['remove']}, cards link {cards['link']}, replace {cards['replace']}, revoke {cards['revoke']}, "
        f"conflicts {found['conflicts']}; applied {report.applied}, held {report.held}"
    )
    for reason in report.verdict.reasons:
        print(f"{'held' if report.held else 'approved'}: {reason}")
    if report.approval_missed:
        print(f"The plan {arguments.approve} is not the one that is held now; look at the new one first.")
    if report.held:
        print(
            f"To apply what is held: tapgate mis sync --config {arguments.config} --site {source.site} "
            f"--source {source.name} --approve {report.verdict.plan}"
        )
    if arguments.json:
        _print_json(found)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))
