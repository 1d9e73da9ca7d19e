"""`tapgate card teach`: finds the card number format of the MIS from a few taps.

Run it with the gateway's daemon stopped: a reader has one owner. Card numbers show their last two bytes only and are
not stored. The setting is written to the named source of hub.toml; without one it is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cards.detective import NEEDED_CARDS, Verdict, form_of, investigate
from gateway.cards.encodings import project
from gateway.cards.identity import UID_PROJECTION
from gateway.cards.uid import Uid
from gateway.commands.toml_edit import replace_text, with_setting
from gateway.config import SourceSettings, load_gateway
from gateway.edge.options import reader_options
from gateway.errors import BadCardNumber, ConfigError, RefusedError
from gateway.hub.settings import read_settings
from gateway.mis.csv_file import CsvFile, build
from gateway.mis.options import Options
from gateway.readers.base import (
    DRIVERS,
    CardGone,
    CardRead,
    CardSuspicion,
    Reader,
    ReaderNotice,
    Transports,
    make_reader,
)
from gateway.transports.real import RealTransports

EXIT_GOOD, EXIT_FINDINGS = 0, 1
_SHOWN = 6
_MANY = ";"

Ask = Callable[[str], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    teach = actions.add_parser("teach", help="tap a few cards and find the encoding of the MIS column")
    teach.add_argument("reader", help="the reader's id in the configuration")
    teach.add_argument("--config", type=Path, required=True, help="a gateway.toml")
    teach.add_argument("--csv", type=Path, help="an MIS export (default: the source's file)")
    teach.add_argument("--column", help="heading of the card number column (default: the source's, or a common one)")
    teach.add_argument("--key-column", help="heading of the person key column (default: the source's, or a common one)")
    teach.add_argument("--hub", type=Path, metavar="FILE", help="the hub.toml to write the setting to")
    teach.add_argument("--site", metavar="ID")
    teach.add_argument("--source", metavar="NAME")
    owner = teach.add_mutually_exclusive_group()
    owner.add_argument(
        "--person",
        action="append",
        default=[],
        metavar="KEY",
        help="person key of the card tapped; once per tap, in order",
    )
    owner.add_argument("--ask", action="store_true", help="ask after each tap for the card's person key")
    teach.add_argument("--taps", type=int, default=NEEDED_CARDS, help="minimum number of different cards to tap")
    teach.add_argument("--seconds", type=float, default=60.0, help="how long to wait for the next card")
    teach.add_argument("--dry-run", action="store_true", help="print the setting without writing it")
    teach.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Learn from taps at a real reader; 1 when the result is uncertain or a person must write the setting."""
    return teach(arguments, RealTransports(), input)


@dataclass(frozen=True, slots=True)
class _Column:
    """The column's numbers, one a row; somebody with two cards in one cell has two rows.

    Attributes:
        rows_of: by person key; empty when the file has none.
    """

    numbers: list[str]
    rows_of: Mapping[str, Collection[int]]


@dataclass(frozen=True, slots=True)
class _Target:
    """The source that gets the setting."""

    path: Path
    place: str
    label: str


def teach(arguments: argparse.Namespace, transports: Transports, ask: Ask) -> int:
    """Take the taps, find the encoding, print the result and write it.

    Args:
        ask: puts a question to the technician and returns the answer.

    Raises:
        ConfigError: an argument or a file it names cannot be used.
        ReaderOffline: the reader cannot be opened or went away.
    """
    column, target = _prepare(arguments)
    for key in arguments.person:
        _check_person(column, key)
    reader = _reader(arguments, transports)
    verdict = _take_taps(reader, arguments, column, ask)
    _print(verdict, column)
    written = verdict.best is not None and _settle(verdict.best.encoding, target, dry_run=arguments.dry_run)
    if arguments.json:
        print(json.dumps(_as_json(verdict, written=written)))
    return EXIT_GOOD if verdict.best and (written or target is None or arguments.dry_run) else EXIT_FINDINGS


def _usage(key: str, message: str) -> ConfigError:
    return ConfigError([f"arguments:0: {key}: {message}"])


def _prepare(arguments: argparse.Namespace) -> tuple[_Column, _Target | None]:
    target: _Target | None = None
    values: dict[str, Any] = {}
    base = Path()
    if arguments.hub:
        source, target = _find_source(arguments)
        if source.kind == "csv":
            values, base = dict(source.options), arguments.hub.parent
        elif not arguments.csv:
            raise _usage(
                "--csv", f"{target.label} is no CSV source; export its card column to a file and pass that file"
            )
    elif not arguments.csv:
        raise _usage("--csv", "pass an MIS export, or --hub, --site and --source")
    if arguments.csv:
        values, base = {**values, "path": str(arguments.csv.absolute())}, Path()
    known: dict[str, Any] = {key: values[key] for key in ("path", "columns", "delimiter") if key in values}
    problems: list[str] = []
    table = build(
        Options(known, base, bytes(32), lambda key, message: problems.append(f"arguments:0: {key}: {message}"))
    )
    if problems:
        raise ConfigError(problems)
    return _read_column(table, arguments), target


def _find_source(arguments: argparse.Namespace) -> tuple[SourceSettings, _Target]:
    settings = read_settings(arguments.hub)
    found = [
        (source, _Target(arguments.hub, source.place, f"{site.id}/{source.name}"))
        for site in settings.sites
        for source in site.sources
        if arguments.site in {None, site.id} and arguments.source in {None, source.name}
    ]
    if len(found) != 1:
        known = ", ".join(f"{site.id}/{source.name}" for site in settings.sites for source in site.sources) or "none"
        raise _usage("--source", f"--site and --source must name one source of {arguments.hub}; there are {known}")
    return found[0]


def _read_column(table: CsvFile, arguments: argparse.Namespace) -> _Column:
    heading = arguments.column or table.heading_of("card")
    if heading is None:
        raise _usage("--column", f"name the column of {table.path.name} that holds the card numbers")
    key_heading = arguments.key_column or table.heading_of("person_key")
    headings = [heading, key_heading] if key_heading else [heading]
    numbers: list[str] = []
    rows_of: dict[str, list[int]] = {}
    for cell, *key in table.cells(headings):
        parts = cell.split(_MANY)
        if key:
            rows_of.setdefault(key[0], []).extend(range(len(numbers), len(numbers) + len(parts)))
        numbers += parts
    return _Column(numbers, rows_of)


def _check_person(column: _Column, key: str) -> None:
    if key not in column.rows_of:
        raise _usage("--person", "one of the keys given is not in the key column; check it, and --key-column")


def _reader(arguments: argparse.Namespace, transports: Transports) -> Reader:
    settings = load_gateway(arguments.config, tuple(DRIVERS))
    options = reader_options(settings)
    settings.file.finish()
    for item in settings.readers:
        if item.id == arguments.reader:
            return make_reader(item.driver, item.id, item.port, options[item.id], transports)
    names = ", ".join(item.id for item in settings.readers) or "none"
    raise _usage("reader", f"there is no reader {arguments.reader!r} in {arguments.config}; there are {names}")


def _take_taps(reader: Reader, arguments: argparse.Namespace, column: _Column, ask: Ask) -> Verdict:
    show = (lambda _text: None) if arguments.json else print
    needed = max(arguments.taps, len(arguments.person), NEEDED_CARDS)
    cards: list[Uid] = []
    owners: dict[Uid, Collection[int]] = {}
    verdict = investigate(cards, column.numbers)
    try:
        reader.open()
        show(f"{reader.name} is ready; tap {needed} different cards, one at a time")
        while (uid := _next_card(reader, cards, arguments.seconds, show)) is not None:
            key = _owner_of(len(cards), arguments, column, ask)
            cards.append(uid)
            if key:
                owners[uid] = column.rows_of[key]
            show(f"card {len(cards)}: {len(uid.raw)} bytes, ends in {uid.tail}")
            if len(cards) < needed:
                continue
            verdict = investigate(cards, column.numbers, owners)
            if verdict.best or arguments.person or not verdict.explanations:
                return verdict
            show(verdict.why)
    finally:
        reader.close()
    show(f"no more cards within {arguments.seconds:g} s")
    return investigate(cards, column.numbers, owners)


def _next_card(reader: Reader, known: list[Uid], seconds: float, show: Callable[[str], object]) -> Uid | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in reader.poll():
            if isinstance(event, CardGone | CardSuspicion | ReaderNotice):
                continue
            if not isinstance(event, CardRead):
                show(f"this card cannot be used: {event.detail}")
                continue
            uid = _uid_of(event)
            if uid is None:
                show("this reader does not report the full UID of this card; use another reader or another card")
            elif uid not in known:
                return uid
        time.sleep(reader.pause_seconds)
    return None


def _uid_of(read: CardRead) -> Uid | None:
    try:
        whole = project(read.number, UID_PROJECTION)
        return Uid(whole.value) if whole else None
    except BadCardNumber:
        return None


def _owner_of(place: int, arguments: argparse.Namespace, column: _Column, ask: Ask) -> str | None:
    if place < len(arguments.person):
        return str(arguments.person[place])
    while arguments.ask:
        key = ask("person key of this card (press Enter if you do not know): ").strip()
        if not key:
            return None
        if key in column.rows_of:
            return key
        print("this key is not in the key column")
    return None


def _print(verdict: Verdict, column: _Column) -> None:
    if verdict.explanations:
        print(f"{'encoding':<20} {'byte order':<18} {'keeps':<24} {'padding':<20} cards  column")
    filled = sum(bool(text.strip()) for text in column.numbers)
    for item in verdict.explanations[:_SHOWN]:
        form = form_of(item, column.numbers)
        note = ""
        if item.disproved:
            note = f"  matches other people for {item.disproved}"
        elif item.ambiguous:
            note = f"  {item.ambiguous} ambiguous"
        print(
            f"{item.encoding:<20} {form.order:<18} {form.keeps:<24} {form.padding:<20} {item.found:>5}  "
            f"{item.readable / filled:.0%}{note}"
        )
    print(verdict.why)


def _settle(encoding: str, target: _Target | None, *, dry_run: bool) -> bool:
    """Write the setting, or print the lines to write; True when the file holds it now."""
    line = f'card_encoding = "{encoding}"'
    if target is None or dry_run:
        print(f"the setting for the source in hub.toml:\n    {line}")
        return False
    try:
        text = with_setting(target.path, target.place, "card_encoding", encoding)
        if text.encode() == target.path.read_bytes():
            print(f"{target.label} has {line} already")
            return True
        kept = replace_text(target.path, text)
    except RefusedError as error:
        print(f"{error} Add this to the [[site.source]] section of {target.label} yourself:\n    {line}")
        return False
    print(f"{target.path}: {target.label} has {line} now; the old file is {kept.name}")
    print("restart the hub, then check the changes with: tapgate mis preview")
    return True


def _as_json(verdict: Verdict, *, written: bool) -> dict[str, Any]:
    return {
        "encoding": verdict.best.encoding if verdict.best else None,
        "why": verdict.why,
        "coverage": round(verdict.coverage, 4),
        "written": written,
        "explanations": [
            {
                "encoding": item.encoding,
                "projection": item.projection,
                "found": item.found,
                "ambiguous": item.ambiguous,
                "disproved": item.disproved,
                "readable": item.readable,
                "shared": item.shared,
            }
            for item in verdict.explanations
        ],
    }
