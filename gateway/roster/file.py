"""The roster file: who may pass where, as sorted fixed records behind a signature.

Little-endian. One file is one generation; it is built once, signed, and never edited.

    header   magic "TGROSTER" 8 | format u16 | record_bytes u16 | count u32 | version u64 | meta_bytes u32 | zero u32
    meta     JSON: site, created, projections, group_sets, points, holidays, zone, actions; padded to 32
    records  count x 32, sorted by key
    seal     public key 32 | endorsement 32 | Ed25519 signature 64, over everything before it

    record   key 16 | person 8 (0: nobody) | group_set u16 | state u8 | flags u8 | first_day u16 | last_day u16

`flags` bit 0 says that the person is active. Dates count days from 2000-01-01, zero is no bound. `group_set` is an
index into `group_sets`; a new generation keeps the indices of the one before, so that a delta names only what changed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway.access.people import CardEntry, CardState, Copies, KioskAction, PointRules, Rule, Stale, UnsetClock
from gateway.access.schedule import ALWAYS, Calendar, Schedule, format_window, parse_window
from gateway.cards.identity import CARD_KEY_BYTES
from gateway.errors import BadRoster
from gateway.roster.actions import PackedAction, pack_actions
from gateway.roster.signing import SEAL_BYTES, Signer

MAGIC = b"TGROSTER"
FORMAT = 1
HEADER = struct.Struct("<8sHHIQII")
RECORD = struct.Struct("<16s8sHBBHH")
PERSON_ACTIVE = 1
_EPOCH = date(2000, 1, 1)
_ALIGN = 32
_LONGEST_SECONDS = 10 * 366 * 86400
_YEARS = range(2020, 2100)


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON part of a roster file; `points` maps a point to its rules, each naming groups and windows.

    Releases before 0.3 wrote neither `zone` nor `actions` and read none; like a policy in `points` they are left out
    where they are not needed.
    """

    site: str
    created: str
    projections: list[str]
    group_sets: list[list[str]]
    points: dict[str, dict[str, Any]]
    holidays: list[tuple[str, str]]
    zone: str = ""
    actions: list[PackedAction] = []


@dataclass(frozen=True, slots=True)
class RosterContent:
    """What one generation says, before it becomes bytes.

    Attributes:
        version: the generation number; it must rise with every build.
        cards: by 16-byte card key.
        zone: the site's time zone (IANA), empty to leave it to each gateway's settings.
        actions: what kiosks offer after a tap.
    """

    site: str
    version: int
    cards: Mapping[bytes, CardEntry]
    points: Mapping[str, PointRules]
    calendar: Calendar = field(default_factory=Calendar)
    projections: tuple[str, ...] = ("uid",)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    zone: str = ""
    actions: tuple[KioskAction, ...] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """A roster file cut at its seams; nothing is verified yet but the lengths."""

    version: int
    count: int
    meta_raw: bytes
    records: memoryview
    signed: memoryview
    seal: bytes


def build(content: RosterContent, signer: Signer, site_key: bytes, previous: bytes | None = None) -> bytes:
    """Build and sign one generation.

    Args:
        previous: the file of the generation before, whose group set indices are kept.
    """
    packed, meta_raw = _pack(content, previous)
    return _sign(content.version, meta_raw, b"".join(packed[key] for key in sorted(packed)), signer, site_key)


def amend(content: RosterContent, gone: set[bytes], signer: Signer, site_key: bytes, previous: bytes) -> bytes:
    """Build and sign a generation that differs from the one before in a few cards; the cost follows their number.

    Args:
        content: with those cards only that are new or may have changed; all else as it is now.
        gone: keys of cards that are no longer there.
        previous: the file of the generation before.
    """
    packed, meta_raw = _pack(content, previous)
    records = merge_records(split(previous).records, packed, gone)
    return _sign(content.version, meta_raw, records, signer, site_key)


def _pack(content: RosterContent, previous: bytes | None) -> tuple[dict[bytes, bytes], bytes]:
    sets = [frozenset(names) for names in decode_meta(split(previous)).group_sets] if previous else []
    index = {names: number for number, names in enumerate(sets)}
    records = {}
    for key in sorted(content.cards):
        entry = content.cards[key]
        if entry.groups not in index:
            index[entry.groups] = len(sets)
            sets.append(entry.groups)
        records[key] = pack_record(key, entry, index[entry.groups])
    meta = Meta(
        site=content.site,
        created=content.created.astimezone(UTC).isoformat(timespec="seconds"),
        projections=list(content.projections),
        group_sets=[sorted(names) for names in sets],
        points={name: _pack_point(rules) for name, rules in sorted(content.points.items())},
        holidays=[(first.isoformat(), last.isoformat()) for first, last in content.calendar.holidays],
        zone=content.zone,
        actions=pack_actions(content.actions),
    )
    return records, msgspec.json.encode(meta)


def _sign(version: int, meta_raw: bytes, records: bytes, signer: Signer, site_key: bytes) -> bytes:
    unsigned = assemble(version, meta_raw, records)
    return unsigned + signer.seal(site_key, unsigned)


def merge_records(records: memoryview, put: dict[bytes, bytes], drop: set[bytes]) -> bytes:
    """Put records into packed records in key order, and drop those of some keys."""
    # The old records are copied in runs between the touched keys, so the cost follows the delta, not the roster.
    pieces: list[bytes | memoryview] = []
    start, count = 0, len(records) // RECORD.size
    for key in sorted(put.keys() | drop):
        low, high = start, count
        while low < high:
            middle = (low + high) >> 1
            if bytes(records[middle << 5 : (middle << 5) + CARD_KEY_BYTES]) < key:
                low = middle + 1
            else:
                high = middle
        pieces.append(records[start << 5 : low << 5])
        if key in put:
            pieces.append(put[key])
        held = low < count and bytes(records[low << 5 : (low << 5) + CARD_KEY_BYTES]) == key
        start = low + held
    pieces.append(records[start << 5 :])
    return b"".join(pieces)


def assemble(version: int, meta_raw: bytes, records: bytes) -> bytes:
    """Join version, meta and packed records to everything that the seal covers."""
    meta_raw += b" " * (-len(meta_raw) % _ALIGN)
    header = HEADER.pack(MAGIC, FORMAT, RECORD.size, len(records) // RECORD.size, version, len(meta_raw), 0)
    return header + meta_raw + records


def split(raw: bytes | memoryview) -> Parts:
    """Cut a file at its seams.

    Raises:
        BadRoster: the file is torn, not a roster, or of a later format.
    """
    view = memoryview(raw)
    if len(view) < HEADER.size + SEAL_BYTES:
        raise BadRoster("The roster file is torn: it is shorter than its header.")
    magic, form, record_bytes, count, version, meta_bytes, _ = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise BadRoster("This is not a roster file.")
    if form != FORMAT or record_bytes != RECORD.size:
        raise BadRoster(f"The roster has format {form}; this software reads format {FORMAT}.")
    records_at = HEADER.size + meta_bytes
    end = records_at + count * RECORD.size
    if len(view) != end + SEAL_BYTES:
        raise BadRoster("The roster file is torn: its length does not fit its header.")
    meta_raw = bytes(view[HEADER.size : records_at]).rstrip(b" ")
    return Parts(version, count, meta_raw, view[records_at:end], view[:end], bytes(view[end:]))


def what_it_says(raw: bytes) -> str:
    """Name what a file says, whatever its version, date and seal: SHA-256 in hex.

    Two files say the same when the later one was built with the earlier one as `previous` and nothing has changed.
    """
    parts = split(raw)
    undated = msgspec.json.encode(msgspec.structs.replace(decode_meta(parts), created=""))
    return hashlib.sha256(undated + parts.records).hexdigest()


def decode_meta(parts: Parts) -> Meta:
    """Decode the JSON part.

    Raises:
        BadRoster: it is not of the agreed form.
    """
    try:
        return msgspec.json.decode(parts.meta_raw, type=Meta)
    except msgspec.MsgspecError as error:
        raise BadRoster(f"The roster's description cannot be read: {error}.") from None


def pack_record(key: bytes, entry: CardEntry, group_set: int) -> bytes:
    if len(key) != CARD_KEY_BYTES:
        raise BadRoster(f"A card key has {CARD_KEY_BYTES} bytes.")
    return RECORD.pack(
        key,
        bytes.fromhex(entry.person.removeprefix("p_")) if entry.person else bytes(8),
        group_set,
        entry.state,
        PERSON_ACTIVE if entry.person_active else 0,
        _pack_day(entry.valid_from),
        _pack_day(entry.valid_until),
    )


def unpack_record(record: bytes | memoryview, group_sets: list[frozenset[str]]) -> CardEntry:
    """Read one 32-byte record.

    Raises:
        BadRoster: the record names a state or group set that does not exist.
    """
    _, person, group_set, state, flags, first, last = RECORD.unpack(record)
    try:
        return CardEntry(
            person=f"p_{person.hex()}" if any(person) else None,
            state=CardState(state),
            groups=group_sets[group_set],
            valid_from=_unpack_day(first),
            valid_until=_unpack_day(last),
            person_active=bool(flags & PERSON_ACTIVE),
        )
    except (ValueError, IndexError):
        raise BadRoster("A record of the roster names an unknown card state or group set.") from None


def unpack_points(meta: Meta) -> dict[str, PointRules]:
    """Read the rules of every point.

    Raises:
        BadRoster: a rule cannot be read; nothing of the roster may be used then.
    """
    try:
        return {name: _unpack_point(raw) for name, raw in meta.points.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRoster(f"A rule of the roster cannot be read: {error}.") from None


def unpack_created(meta: Meta) -> datetime:
    """Read when a roster was made; it later serves as a time that is certainly past.

    Raises:
        BadRoster: it is no time with an offset, or of a year in which no roster is made.
    """
    try:
        created = datetime.fromisoformat(meta.created).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRoster("The date of the roster cannot be read.") from None
    if created.year not in _YEARS:
        raise BadRoster(f"The roster says that it was made in {created.year}.")
    return created


def unpack_zone(meta: Meta) -> ZoneInfo | None:
    """Read the site's time zone, None where the roster leaves it to the gateway.

    Raises:
        BadRoster: this machine does not know the zone.
    """
    if not meta.zone:
        return None
    try:
        return ZoneInfo(meta.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRoster("The roster names a time zone that this machine does not know; update tzdata.") from None


def check_records(parts: Parts, group_sets: int) -> None:
    """Check every record: in order, each key once, and nothing that a look-up could stumble over.

    Raises:
        BadRoster: a record is not as it must be.
    """
    before = b""
    states = frozenset(map(int, CardState))
    for key, _, group_set, state, _, _, _ in RECORD.iter_unpack(parts.records):
        if key <= before:
            raise BadRoster("The records of the roster are out of order.")
        if state not in states or group_set >= group_sets:
            raise BadRoster("A record of the roster names an unknown card state or group set.")
        before = key


def unpack_calendar(meta: Meta) -> Calendar:
    try:
        return Calendar(tuple((date.fromisoformat(first), date.fromisoformat(last)) for first, last in meta.holidays))
    except ValueError as error:
        raise BadRoster(f"A holiday of the roster cannot be read: {error}.") from None


def _pack_day(day: date | None) -> int:
    return 0 if day is None else max(1, min(0xFFFF, (day - _EPOCH).days))


def _unpack_day(days: int) -> date | None:
    return _EPOCH + timedelta(days=days) if days else None


def _pack_point(rules: PointRules) -> dict[str, Any]:
    packed: dict[str, Any] = {"lockdown": rules.lockdown, "rules": [_pack_rule(rule) for rule in rules.rules]}
    default = PointRules(())
    if rules.unset_clock is not default.unset_clock:
        packed["unset_clock"] = str(rules.unset_clock)
    if rules.stale is not default.stale or rules.stale_after_seconds != default.stale_after_seconds:
        packed["stale"] = [str(rules.stale), rules.stale_after_seconds]
    if rules.copies is not default.copies:
        packed["copies"] = str(rules.copies)
    return packed


def _pack_rule(rule: Rule) -> dict[str, Any]:
    schedule = rule.schedule
    return {
        "name": rule.name,
        "groups": sorted(rule.groups),
        "schedule": schedule.name,
        "windows": [format_window(window) for window in schedule.windows],
        "on_holidays": schedule.on_holidays,
    }


def _unpack_point(raw: dict[str, Any]) -> PointRules:
    default = PointRules(())
    stale, after_seconds = raw.get("stale", (default.stale, default.stale_after_seconds))
    if not 0 <= float(after_seconds) <= _LONGEST_SECONDS:
        raise ValueError("stale lies outside of what a roster may say")
    return PointRules(
        tuple(_unpack_rule(rule) for rule in raw["rules"]),
        bool(raw["lockdown"]),
        UnsetClock(raw.get("unset_clock", default.unset_clock)),
        Stale(stale),
        float(after_seconds),
        Copies(raw.get("copies", default.copies)),
    )


def _unpack_rule(raw: dict[str, Any]) -> Rule:
    windows = tuple(parse_window(text) for text in raw["windows"])
    schedule = Schedule(str(raw["schedule"]), windows, bool(raw["on_holidays"]))
    return Rule(str(raw["name"]), frozenset(map(str, raw["groups"])), ALWAYS if schedule == ALWAYS else schedule)


def rule_for_everyone(name: str = "everyone") -> PointRules:
    """Return the rules of a point that every active card may use at any time."""
    return PointRules((Rule(name, frozenset(), ALWAYS),))


def iter_records(records: memoryview | bytes) -> Iterable[bytes]:
    """Return each packed record in key order."""
    raw = bytes(records)
    return (raw[at : at + RECORD.size] for at in range(0, len(raw), RECORD.size))
