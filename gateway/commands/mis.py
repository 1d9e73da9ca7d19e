"""`tapgate mis ACTION`: tests, previews and syncs the sources of people and cards, hub stopped or running.

check and preview read hub.toml as it is now and write nothing. Run by root, every action works as the owner of the
hub's state folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.commands.hub import CONFIG
from gateway.config import HubSettings
from gateway.errors import ConfigError, SourceRefused, SourceUnreachable
from gateway.hub.directory.cards import by_hand
from gateway.hub.directory.sites import Source, list_sources, removed_owners, source_of
from gateway.hub.settings import look_at_store, prepare_store, read_settings
from gateway.hub.store.engine import Store
from gateway.hub.sync import holds
from gateway.hub.sync.reading import connector_of
from gateway.hub.sync.run import Report, Wish, preview, sync
from gateway.hub.work.jobs import list_jobs
from gateway.mis.registry import SYSTEMS, routes_to
from gateway.privileges import user_name

GOOD, FINDINGS, FAILED = 0, 1, 3
_SHOWN = 20
_ACTIONS = {
    "check": "test the source; writes nothing",
    "discover": "list the fields of a source and which of them look like card numbers; no values",
    "preview": "show what a sync would change; writes nothing",
    "sync": "read the source and apply what the guard allows",
    "approve": "approve held operations; the next sync applies those that the source still asks for",
    "list": "list the sources, including those no longer in hub.toml that still have people",
    "jobs": "list when each source is read, how its last run ended, and why one has stopped",
    "routes": "list the ways to school systems, the recommended one first; --system for one",
    "retire": "remove the people of a source no longer in hub.toml; held until --approve",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    parser.add_argument("action", choices=tuple(_ACTIONS), help=words)
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"hub.toml (default {CONFIG})")
    parser.add_argument("--site", metavar="ID", help="needed for all but list and jobs")
    parser.add_argument("--source", metavar="NAME", help="needed for all but list and jobs")
    parser.add_argument("--approve", metavar="HASH", help="sync, retire: also apply the held plan with this hash")
    parser.add_argument("--operation", metavar="HASH", nargs="+", help="approve: these held operations")
    parser.add_argument("--all", action="store_true", help="approve: everything that is held")
    parser.add_argument("--first", action="store_true", help="sync: let in what the first read of a source finds")
    parser.add_argument("--delta", action="store_true", help="sync: read only what changed, where the source can tell")
    parser.add_argument("--system", metavar="NAME", help="routes: the school's system, such as SIMS")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run one action on one source."""
    if arguments.action == "routes":
        return _routes(arguments.system, as_json=arguments.json)
    settings = read_settings(arguments.config)
    if arguments.action not in {"list", "jobs"}:
        for word in ("site", "source"):
            if getattr(arguments, word) is None:
                raise ConfigError([f"mis:0: --{word}: is needed for {arguments.action}."])
    match arguments.action:
        case "list":
            return _list(settings, as_json=arguments.json)
        case "jobs":
            return _jobs(settings, as_json=arguments.json)
        case "check" | "preview" | "discover":
            with look_at_store(settings) as store:
                return _look(store, settings, arguments)
        case _:
            store = prepare_store(settings)
            try:
                return _apply(store, settings, arguments)
            finally:
                store.close()


def _look(store: Store, settings: HubSettings, arguments: argparse.Namespace) -> int:
    base = settings.file.path.parent
    with store.read() as connection:
        source = source_of(settings, connection, arguments.site, arguments.source)
    if source is None:
        raise _unknown(arguments, [f"{site.id}/{item.name}" for site in settings.sites for item in site.sources])
    if arguments.action == "check":
        return _check(store, source, base, arguments.json)
    if arguments.action == "discover":
        return _discover(store, source, base, arguments.json)
    try:
        named = [item.name for site in settings.sites if site.id == source.site for item in site.sources]
        report = preview(store, source, base, named)
    except (SourceRefused, SourceUnreachable) as error:
        return _fail(error, arguments.json)
    return _print(report, source, arguments)


def _apply(store: Store, settings: HubSettings, arguments: argparse.Namespace) -> int:
    retire = arguments.action == "retire"
    with store.read() as connection:
        found = list_sources(connection, arguments.site, arguments.source, removed=retire)
        known = [source.label for source in list_sources(connection, removed=retire)]
    if not found:
        raise _unknown(arguments, known)
    if arguments.action == "approve":
        return _approve(store, found[0], arguments)
    wish = Wish("hand", by_hand(user_name()), arguments.first, arguments.approve, arguments.delta)
    try:
        report = sync(store, found[0], settings.file.path.parent, wish)
    except (SourceRefused, SourceUnreachable) as error:
        return _fail(error, arguments.json)
    return _print(report, found[0], arguments)


def _approve(store: Store, source: Source, arguments: argparse.Namespace) -> int:
    if not arguments.operation and not arguments.all:
        raise ConfigError(["mis:0: --operation: name the hashes to approve, or --all."])
    chosen = None if arguments.all else arguments.operation
    count = holds.decide(store, source.id, by_hand(user_name()), "approved", chosen)
    print(f"{count} operations of {source.label} are approved; the next sync applies them.")
    if arguments.json:
        _print_json({"approved": count})
    return GOOD


def _routes(system: str | None, *, as_json: bool) -> int:
    found = dict([routes_to(system)]) if system else SYSTEMS
    for name, routes in found.items():
        print(f"{name}: {routes[0].kind} is recommended: {routes[0].why}")
        for route in routes[1:]:
            print(f"  or {route.kind}: {route.why}")
    if as_json:
        rows = [{"system": name, "routes": [asdict(route) for route in routes]} for name, routes in found.items()]
        _print_json({"systems": rows})
    return GOOD


def _list(settings: HubSettings, *, as_json: bool) -> int:
    with look_at_store(settings) as store, store.read() as connection:
        left = {site.id: dict(removed_owners(connection, site.id)) for site in settings.sites}
        gone = {name: list_sources(connection, name, removed=True) for name in left}
    rows = [(site.id, item.name, True, 0) for site in settings.sites for item in site.sources]
    rows += [(site, item.name, False, left[site].get(item.name, 0)) for site, items in gone.items() for item in items]
    for site, name, configured, people in rows:
        print(f"{site}/{name}" if configured else f"{site}/{name}: no longer in hub.toml; {people} people left")
    if as_json:
        keys = ("site", "source", "configured", "people_left")
        _print_json({"sources": [dict(zip(keys, row, strict=True)) for row in rows]})
    return FINDINGS if any(people for *_, people in rows) else GOOD


def _jobs(settings: HubSettings, *, as_json: bool) -> int:
    with look_at_store(settings) as store, store.read() as connection:
        names = {source.id: source.name for source in list_sources(connection)}
        jobs = [job for job in list_jobs(connection) if job.source in names]
    rows = [{"site": job.site, "source": names[job.source or 0], **job.as_json()} for job in jobs]
    for row in rows:
        fault = row["stopped_why"] or row["last_error"]
        when = "stopped" if row["stopped_why"] else f"next {row['next']}"
        since = f"; failing since {row['failing_since']}: {fault}" if row["failing_since"] else ""
        last = f"last {row['last']} {row['last_result']}" if row["last"] else "never ran"
        print(f"{row['site']}/{row['source']} {row['kind']}: {when}, {last}{since}")
    if as_json:
        _print_json({"jobs": rows})
    return FINDINGS if any(row["failing_since"] or row["stopped_why"] for row in rows) else GOOD


def _unknown(arguments: argparse.Namespace, known: list[str]) -> ConfigError:
    what = "removed source" if arguments.action == "retire" else "source"
    hint = "; take its section out of hub.toml first" if arguments.action == "retire" else ""
    place = f"{arguments.site}/{arguments.source}"
    names = ", ".join(known) or "none"
    return ConfigError([f"{arguments.config}:0: site.source: there is no {what} {place}{hint}; known: {names}"])


def _check(store: Store, source: Source, base: Path, as_json: bool) -> int:
    result = connector_of(store, source, base).check()
    print(result.detail if result.ok else f"{result.failure}: {result.detail}")
    if result.headings:
        print(f"headings: {', '.join(result.headings)}")
    for name, heading in result.mapping.items():
        print(f"  {name.replace('_', ' ')} from {heading!r}")
    for person in result.sample:
        print("  " + ", ".join(f"{name} {value}" for name, value in person.items()))
    for _, text in result.warnings:
        print(f"notice: {text}")
    if as_json:
        _print_json(
            {
                "ok": result.ok,
                "failure": result.failure,
                "detail": result.detail,
                "warnings": [{"word": word, "detail": text} for word, text in result.warnings],
                "headings": list(result.headings),
                "mapping": dict(result.mapping),
                "sample": [dict(person) for person in result.sample],
            }
        )
    if not result.ok:
        return FAILED
    return FINDINGS if result.warnings else GOOD


def _discover(store: Store, source: Source, base: Path, as_json: bool) -> int:
    try:
        fields = list(connector_of(store, source, base).discover())
    except (SourceRefused, SourceUnreachable) as error:
        return _fail(error, as_json)
    for item in fields:
        mark = "  looks like card numbers" if item.card_like else ""
        print(f"{item.list} {item.path!r}: {item.filled} filled, {item.distinct} distinct, {item.shape}{mark}")
    if as_json:
        _print_json({"fields": [asdict(item) for item in fields]})
    return GOOD


def _fail(error: SourceRefused | SourceUnreachable, as_json: bool) -> int:
    failure = error.failure if isinstance(error, SourceRefused) else "unreachable"
    print(f"{failure}: {error}")
    if as_json:
        _print_json({"ok": False, "complete": False, "failure": failure, "detail": str(error)})
    return FAILED


def _print(report: Report, source: Source, arguments: argparse.Namespace) -> int:
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
        print(f"The plan {arguments.approve} is not the one held now; review the new one first.")
    if report.held or (report.run is None and report.is_first):
        _print_way_on(report, source, arguments)
    if arguments.json:
        _print_json({**found, "held_operations": report.held_operations()})
    found_new = report.plan.conflicts if report.run is None else report.new_conflicts
    clean = report.feed.complete and not (report.held or found_new or report.feed.unreadable)
    return GOOD if clean else FINDINGS


def _print_way_on(report: Report, source: Source, arguments: argparse.Namespace) -> None:
    """Print what is held and how it is let through."""
    held = report.held_operations()
    for item in held[:_SHOWN]:
        print(f"  {item['hash']}  {item['what']}")
    if len(held) > _SHOWN:
        print(f"  ... and {len(held) - _SHOWN} more")
    words = f"--config {arguments.config} --site {source.site} --source {source.name}"
    if report.is_first:
        print(f"To let these people in: tapgate mis sync {words} --first")
        return
    print(f"To let some of them through: tapgate mis approve {words} --operation HASH ..., and then sync")
    verb = "retire" if source.is_removed else "sync"
    print(f"To apply all of them now: tapgate mis {verb} {words} --approve {report.verdict.plan}")


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))
