"""Builds the parts of a gateway that may fail without ending the start.

Law of this file: a problem of one part costs that part only. It is reported once, with its file and its remedy, in the
log, on the page and in doctor; everything else runs. Only an unreadable configuration, or another process that writes
the journal, ends the start.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import BrokerSettings, GatewaySettings, PointSettings, ReaderSettings, read_site_key
from gateway.edge.absent import AbsentJournal, AbsentReader
from gateway.edge.checkpoints import load_gateway_key
from gateway.errors import ConfigError, FatalError, JournalLocked, TapgateError
from gateway.journal.journal import Journal
from gateway.outputs.guard import GuardedDoor, guard_files, write_guard_file
from gateway.points.lock import Egress, Lock, LockKind, Situation
from gateway.readers.base import Reader, Transports, make_reader
from gateway.roster.signing import Trust
from gateway.roster.store import RosterStore

log = logging.getLogger(__name__)

SITE_KEY, HUB_LINK, JOURNAL, GATEWAY_KEY, DOOR_GUARD = "site key", "hub link", "journal", "gateway key", "door guard"
_OF_ONE_PART = re.compile(r"reader\.\d+(\.(?!id$).*)?|point\.\d+\.(lock|egress)")


@dataclass(slots=True)
class StartFaults:
    """The parts that do not run, each with one sentence; only changes are logged."""

    _sentences: dict[str, str] = field(default_factory=dict)

    def note(self, part: str, sentence: str) -> None:
        if self._sentences.get(part) != sentence:
            log.error("%s: %s", part, sentence)
        self._sentences[part] = sentence

    def clear(self, part: str) -> None:
        if self._sentences.pop(part, None):
            log.info("%s: works now", part)

    def __contains__(self, part: str) -> bool:
        return part in self._sentences

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return part and sentence of each, in the order in which they were found."""
        return tuple(self._sentences.copy().items())


def costs_one_part(place: str) -> bool:
    """Return whether a configuration problem affects one reader only, or a door without `lock` and `egress`.

    check-config still refuses such a file. A door without `lock` and `egress` comes from the release before and is
    driven as that release drove it, because an update must not lock a school out.
    """
    return _OF_ONE_PART.fullmatch(place) is not None


def note_old_doors(settings: GatewaySettings, faults: StartFaults) -> None:
    """Note the doors that are configured without lock and egress."""
    for number, point in enumerate(settings.points):
        problems = [text for key in ("lock", "egress") for text in settings.file.problems_at(f"point.{number}.{key}")]
        if problems:
            faults.note(f"door {point.id}", "; ".join([*problems, "until then it is driven as a fail-secure strike"]))


def find_site_key(settings: GatewaySettings, faults: StartFaults) -> bytes | None:
    """Read the site key; None while it cannot be used, and then every tap is denied."""
    try:
        key = read_site_key(settings.site_key_file)
    except ConfigError as error:
        faults.note(SITE_KEY, f"{error} Put the site's key there, readable by the daemon; no restart is needed.")
        return None
    return key


def make_trust(settings: GatewaySettings, site_key: bytes | None) -> Trust:
    """Return the keys that rosters are checked with; without a site key no roster passes."""
    return Trust(site_key or os.urandom(32), settings.roster_signer)


def load_roster(roster: RosterStore, floor: int) -> None:
    """Put the newest good roster in force, none when the folder cannot be read; `roster.fault` says why."""
    try:
        roster.load(floor)
    except OSError as error:
        roster.fault = f"The roster folder cannot be used ({error}); repair it, and the hub sends the roster again."
        log.exception("the roster folder cannot be used")


def open_journal(settings: GatewaySettings, faults: StartFaults) -> Journal | AbsentJournal:
    """Open the journal, or return an AbsentJournal that refuses every event.

    Raises:
        JournalLocked: another daemon runs on this folder; two of them must not drive the same doors.
    """
    folder = settings.state_dir / "journal"
    try:
        journal = Journal.open(
            folder,
            settings.id,
            quota_bytes=settings.journal_quota_mib << 20,
            segment_bytes=settings.journal_segment_kib << 10,
            keep_days=settings.journal_keep_days,
        )
    except JournalLocked:
        raise
    except Exception as error:
        if not isinstance(error, OSError | TapgateError):
            log.exception("the journal cannot be opened")
        why = str(error) if isinstance(error, TapgateError) else f"{folder} cannot be used ({error})."
        sentence = f"{why} Doors open, lanes do not serve, nothing is recorded; repair it, it is tried again."
        faults.note(JOURNAL, sentence)
        return AbsentJournal(folder, sentence)
    faults.clear(JOURNAL)
    return journal


def check_link_files(broker: BrokerSettings) -> list[str]:
    """Return one sentence for each file of the hub link that is not there, cannot be read, or is empty."""
    named = (
        ("ca_file", broker.ca_file),
        ("cert_file", broker.cert_file),
        ("key_file", broker.key_file),
        ("password_file", broker.password_file),
    )
    sentences = []
    for key, path in named:
        if path is None:
            continue
        try:
            with path.open("rb") as file:
                why = "" if file.read(1) else "is empty"
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        if why:
            sentences.append(f"{key} {path} {why}; put the file there, readable by the daemon's user.")
    return sentences


def require_link_files(broker: BrokerSettings) -> None:
    """Raise FatalError when a file of the hub link is missing; without this its message would not name the file."""
    if missing := check_link_files(broker):
        raise FatalError(" ".join(missing))


def find_gateway_key(settings: GatewaySettings, faults: StartFaults) -> Ed25519PrivateKey | None:
    """Read or make the key that signs checkpoints; None while it cannot be used, and then none are written."""
    try:
        key = load_gateway_key(settings.state_dir / "gateway.key")
    except TapgateError as error:
        faults.note(GATEWAY_KEY, f"{error} The journal continues unsigned until the next start.")
        return None
    faults.clear(GATEWAY_KEY)
    return key


def make_readers(settings: GatewaySettings, options: Mapping[str, Any], transports: Transports) -> dict[str, Reader]:
    """Build every reader; one that cannot be built becomes an AbsentReader with the reason."""
    return {item.id: _make_reader(settings, item, options.get(item.id), transports) for item in settings.readers}


def _make_reader(settings: GatewaySettings, item: ReaderSettings, options: Any, transports: Transports) -> Reader:
    problems = settings.file.problems_at(item.place)
    if problems:
        return AbsentReader(item.id, " ".join(problems))
    try:
        return make_reader(item.driver, item.id, item.port, options, transports)
    except Exception as error:
        if not isinstance(error, TapgateError):
            log.exception("reader %s cannot be built", item.id)
        why = str(error) if isinstance(error, TapgateError) else f"{type(error).__name__}: {error}"
        return AbsentReader(item.id, f"The driver {item.driver} cannot be used here: {why}")


def lock_of(point: PointSettings) -> Lock:
    """Return the lock of a point; without settings it is the fail-secure strike of the release before."""
    kind = LockKind(point.lock or LockKind.FAIL_SECURE)
    return Lock(kind, Egress(point.egress or Egress.MECHANICAL), point.strike_active_low)


def write_guard(settings: GatewaySettings, faults: StartFaults) -> None:
    """Record for the door guard the level of each door's pin without a daemon."""
    doors = [
        GuardedDoor(point.id, point.strike_gpio, lock_of(point).is_high(Situation.CRASH))
        for point in settings.points
        if point.strike_gpio is not None
    ]
    kept, failures = False, []
    for path in guard_files(settings.state_dir):
        try:
            if not doors and not path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_guard_file(path, doors)
            kept = True
        except OSError as error:
            failures.append(f"{path} cannot be written ({error.strerror})")
    if failures and doors and not kept:
        faults.note(
            DOOR_GUARD, f"{'; '.join(failures)}; after a crash the doors stay as they were. Make the folder writable."
        )
    else:
        faults.clear(DOOR_GUARD)
