"""Prove that nothing in a journal was dropped, doubled, edited or put in another order, or name what was.

Reads the folder as it is, also while a gateway writes to it; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.access.checkpoint import read_checkpoint
from gateway.access.event import Event, decode_event
from gateway.errors import BadMessage
from gateway.journal.catalog import Catalog
from gateway.journal.chain import link_of
from gateway.journal.face import JournalReader
from gateway.journal.frames import BadBytes, FrameKind, scan
from gateway.journal.segments import DATA_START, segment_path

# A checkpoint names an event shortly before it.
_LINKS_KEPT = 1000


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong.

    Attributes:
        kind: `torn` (the end of what was being written at a power cut), `cut` (the newest records, which were durable,
            are gone), `damage` (bytes that are no record), `missing` (events that cannot be read), `chain` (an event
            does not follow from the one before it), `order` (a number twice, or out of order), `foreign` (an event of
            another gateway or epoch), `form` (no event), `checkpoint` (a signature that is not the gateway's, or that
            vouches for other bytes).
        first: first event concerned, 0 when it is about bytes only; `last` likewise.
    """

    kind: str
    text: str
    first: int = 0
    last: int = 0
    segment: int = 0


class Report(msgspec.Struct):
    """What `verify` found; `events` were read and are good unless a finding names them."""

    directory: str
    gateway: str = ""
    epoch: str = ""
    boot: int = 0
    first: int = 0
    head: int = 0
    acked: int = 0
    events: int = 0
    segments: int = 0
    checkpoints: int = 0
    findings: list[Finding] = []

    @property
    def ok(self) -> bool:
        return not self.findings


@dataclass(slots=True)
class _Walk:
    """The chain so far; `before` is None after an event that cannot be read."""

    gateway: str
    epoch: str
    before: bytes | None = None
    expected: str | None = None
    key: Ed25519PublicKey | None = None
    links: dict[int, str] = field(default_factory=dict)
    checkpoints: int = 0
    findings: list[Finding] = field(default_factory=list)

    def take(self, seq: int, raw: bytes) -> None:
        try:
            event = decode_event(raw)
        except BadMessage as error:
            self.findings.append(Finding("form", f"event {seq}: {error}", seq, seq))
            self.before, self.expected = raw, link_of(raw).hex()
            return
        self._check(seq, event)
        self.before, self.expected = raw, link_of(raw).hex()
        if self.key is not None:
            self._check_signature(seq, event, self.key)
            self.links[seq] = self.expected
            self.links.pop(seq - _LINKS_KEPT, None)

    def _check_signature(self, seq: int, event: Event, key: Ed25519PublicKey) -> None:
        try:
            vouched = read_checkpoint(key, event)
        except BadMessage as error:
            self.findings.append(Finding("checkpoint", str(error), seq, seq))
            return
        if vouched is None:
            return
        self.checkpoints += 1
        known = self.links.get(vouched[0])
        if known is not None and known != vouched[1]:
            text = f"checkpoint {seq} vouches for other bytes than event {vouched[0]} has now"
            self.findings.append(Finding("checkpoint", text, vouched[0], vouched[0]))

    def _check(self, seq: int, event: Event) -> None:
        if (event.gw, event.epoch) != (self.gateway, self.epoch):
            text = f"event {seq} is of gateway {event.gw!r}, epoch {event.epoch}"
            self.findings.append(Finding("foreign", text, seq, seq))
        if event.seq != seq:
            text = f"event {event.seq} stands in the place of event {seq}"
            self.findings.append(Finding("order", text, min(seq, event.seq), max(seq, event.seq)))
        if self.expected is not None and event.prev != self.expected:
            first = seq - 1 if self.before is not None else seq
            text = f"event {seq} does not follow from the one before it: one of them was edited or replaced"
            self.findings.append(Finding("chain", text, first, seq))

    def miss(self, first: int, last: int, *, acked: int) -> None:
        known = "the hub has them" if last <= acked else "the hub may not have them"
        named = f"event {first}" if first == last else f"events {first} to {last}"
        text = f"{named} cannot be read; {known.replace('them', 'it') if first == last else known}"
        self.findings.append(Finding("missing", text, first, last))
        self.before = self.expected = None


def verify(directory: Path, key: Ed25519PublicKey | None = None) -> Report:
    """Check every record and the whole chain of a journal folder.

    Args:
        key: the gateway's public key; with it the signed checkpoints are checked too.

    Raises:
        BadRecord: a later version of this software wrote there.
        OSError: the folder cannot be read.
    """
    reader = JournalReader.open(directory)
    catalog = reader.catalog
    report = Report(str(directory), reader.gateway, reader.epoch, reader.boot, head=reader.head, acked=reader.acked)
    report.segments = len(catalog.entries) + len(catalog.unreadable)
    for damage in reader.damage():
        if damage.end or not damage.missing:
            kind = "torn" if damage.torn else "damage"
            report.findings.append(Finding(kind, damage.what, segment=damage.segment))
    if reader.cut is not None:
        first, last = reader.cut
        text = f"events {first} to {last} were written and their records are cut off: the anchor names event {last}"
        report.findings.append(Finding("cut", text, first, last))
    for place in range(len(catalog.entries)):
        report.findings += _check_order(catalog, place)
    _check_chain(reader, report, key)
    return report


def _check_order(catalog: Catalog, place: int) -> list[Finding]:
    entry = catalog.entries[place]
    try:
        data = segment_path(catalog.directory, entry.number).read_bytes()
    except FileNotFoundError:
        return []
    end_seq = catalog.end_seq(place)
    found: list[Finding] = []
    highest = entry.header.first_seq - 1
    for frame in scan(data, entry.header.seed, DATA_START):
        if isinstance(frame, BadBytes) or frame.kind is not FrameKind.EVENT:
            continue
        if end_seq is not None and frame.number >= end_seq:
            continue
        if frame.number <= highest:
            text = f"event {frame.number} stands after event {highest}"
            found.append(Finding("order", text, frame.number, highest, entry.number))
        highest = max(highest, frame.number)
    return found


def _check_chain(reader: JournalReader, report: Report, key: Ed25519PublicKey | None) -> None:
    catalog = reader.catalog
    if not catalog.entries:
        return
    first_header = catalog.entries[0].header
    walk = _Walk(report.gateway, report.epoch, expected=first_header.prev.hex(), key=key)
    oldest = first_header.first_seq
    if oldest > reader.acked + 1:
        walk.miss(reader.acked + 1, oldest - 1, acked=reader.acked)
    report.first = oldest
    missing: list[int] = []
    for seq, raw in catalog.events(oldest, reader.head):
        if raw is None:
            missing.append(seq)
            continue
        if missing:
            walk.miss(missing[0], missing[-1], acked=reader.acked)
            missing = []
        walk.take(seq, raw)
        report.events += 1
    if missing:
        walk.miss(missing[0], missing[-1], acked=reader.acked)
    report.findings += walk.findings
    report.checkpoints = walk.checkpoints
