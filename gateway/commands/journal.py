"""`tapgate journal list|verify|export`: inspects and verifies the journal of a running or stopped gateway."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.access.event import decode_event
from gateway.errors import BadMessage, FatalError
from gateway.journal.face import JournalReader
from gateway.journal.segments import list_segments
from gateway.journal.verify import Report, verify

_GOOD, _FINDINGS = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = verbs.add_parser("list", help="show the last events")
    show.add_argument("--after", type=int, help="start after this number instead of near the end")
    show.add_argument("--limit", type=int, default=50, help="maximum number of events (50)")
    check = verbs.add_parser("verify", help="check that no event was dropped, duplicated or edited")
    check.add_argument("--key", metavar="HEX", help="the gateway's public key, to check the signed checkpoints too")
    export = verbs.add_parser("export", help="write every event byte for byte, one per line")
    export.add_argument("--output", type=Path, help="output file (default: standard output)")
    for action in (show, check, export):
        action.add_argument("directory", metavar="DIR", type=Path, help="the gateway's state folder or its journal")
        action.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    directory = _find(arguments.directory)
    if arguments.action == "verify":
        return _verify(verify(directory, _public_key(arguments.key)), as_json=arguments.json)
    reader = JournalReader.open(directory)
    if arguments.action == "export":
        _export(reader, arguments.output)
    else:
        _list(reader, arguments.after, arguments.limit, as_json=arguments.json)
    return _GOOD


def _public_key(text: str | None) -> Ed25519PublicKey | None:
    if text is None:
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        raise FatalError("--key must be the 64 hex digits of the gateway's public key.") from None


def _find(directory: Path) -> Path:
    for folder in (directory / "journal", directory):
        if folder.is_dir() and list_segments(folder):
            return folder
    raise FatalError(f"There is no journal in {directory}; pass a gateway's state_dir.")


def _list(reader: JournalReader, after: int | None, limit: int, *, as_json: bool) -> None:
    begin = max(reader.head - limit, 0) if after is None else after
    events = reader.after(begin, limit)
    if as_json:
        # The stored bytes of each event, untouched.
        print("[" + ",\n".join(raw.decode() for _, raw in events) + "]")
        return
    print(f"{reader.gateway}  epoch {reader.epoch}  events to {reader.head}, confirmed by the hub to {reader.acked}")
    for seq, raw in events:
        print(_line(seq, raw))


def _line(seq: int, raw: bytes) -> str:
    try:
        event = decode_event(raw)
    except BadMessage as error:
        return f"{seq:>8}  {error}"
    words = [event.kind, event.point or "", event.decision or "", event.reason or "", event.person or ""]
    if event.card:
        words.append(f"..{event.card.tail}")
    if event.kind == "system" and event.system:
        words.append(str(event.system.get("what", "")))
    return f"{seq:>8}  {event.at}  {event.clock:4}  " + "  ".join(word for word in words if word)


def _export(reader: JournalReader, output: Path | None) -> None:
    lines: Iterator[bytes] = (raw + b"\n" for _, raw in reader.stored())
    if output is None:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
        return
    with output.open("wb") as file:
        file.writelines(lines)
    print(f"{output}: {reader.head - reader.oldest + 1} events from {reader.oldest} to {reader.head}", file=sys.stderr)


def _verify(report: Report, *, as_json: bool) -> int:
    if as_json:
        print(msgspec.json.encode(msgspec.structs.asdict(report) | {"ok": report.ok}).decode())
        return _GOOD if report.ok else _FINDINGS
    print(
        f"{report.gateway}  epoch {report.epoch}  {report.events} events from {report.first} to {report.head} "
        f"in {report.segments} segments, confirmed by the hub to {report.acked}"
    )
    for finding in report.findings:
        print(f"{finding.kind:8} {finding.text}")
    print(
        "intact: every record is valid and the chain is unbroken" if report.ok else f"{len(report.findings)} findings"
    )
    return _GOOD if report.ok else _FINDINGS
