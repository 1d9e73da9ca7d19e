"""Brings the newest roster to the gateway: manifest, then delta or chunks, verify, swap.

Runs on the relay thread and never on the way of a tap. Whatever arrives torn, unsigned or late leaves the roster in
force as it is; a delta that does not lead to the signed bytes is followed by the whole file. What the broker lacks or
holds damaged is asked for at the hub, less and less often while nothing comes of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.edge.reporter import Reporter
from gateway.errors import BadRoster
from gateway.link.client import Arrived
from gateway.link.messages import MAX_MISSING
from gateway.link.topics import roster_chunk, roster_delta, roster_manifest
from gateway.roster.publication import Manifest, apply_delta, join_chunks, open_chunk, read_manifest
from gateway.roster.store import RosterStore

log = logging.getLogger(__name__)

FETCH_SECONDS = 30.0
# How long a manifest or a chunk may be on its way before the hub is asked for it.
ASK_AFTER_SECONDS = 10.0
ASK_AGAIN_SECONDS, ASK_AGAIN_MAX_SECONDS = 60.0, 900.0
MANIFEST = "manifest"
_Handler = Callable[[Arrived], None]


class Wire(Protocol):
    """What is needed of the relay: exact topics, at QoS 1, their payloads handed over on the relay thread."""

    def on(self, topic: str, handler: _Handler) -> None: ...

    def off(self, topic: str) -> None: ...


@dataclass(slots=True)
class _Fetch:
    """One generation on its way in."""

    manifest: Manifest
    manifest_payload: bytes
    awaited: set[str]
    plain: dict[str, bytes]
    topics: list[str]
    give_up_at: float


class RosterSync:
    """Follows the roster topics of one site.

    Args:
        changed: called after another generation came into force.
    """

    def __init__(
        self, store: RosterStore, wire: Wire, reporter: Reporter, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._wire, self._reporter, self._changed = store, wire, reporter, changed
        self._fetch: _Fetch | None = None
        # Handlers run on the relay's thread, tick on the housekeeper's.
        self._lock = threading.RLock()
        self._lacks_since: float | None = time.monotonic()
        self._bad: set[str] = set()
        self._missing: list[str] = []
        self._ask_at, self._ask_again_seconds = 0.0, ASK_AGAIN_SECONDS
        self.fault: str | None = None
        self.last_manifest_version: int | None = None

    def start(self) -> None:
        self._wire.on(roster_manifest(self._store.site), lambda message: self._locked(self._on_manifest, message))

    def tick(self) -> None:
        """Abandon a fetch that takes too long, and start it again."""
        with self._lock:
            self._tick()

    def _locked(self, handle: Callable[[str, bytes], None], message: Arrived) -> None:
        with self._lock:
            handle(message.topic, message.payload)

    def _tick(self) -> None:
        self._ask()
        fetch = self._fetch
        if fetch is not None and time.monotonic() > fetch.give_up_at:
            self._end_fetch()
            self.fault = f"Roster {fetch.manifest.version} did not arrive in {FETCH_SECONDS:.0f} s; asking again."
            log.warning("%s", self.fault)
            self._begin(fetch.manifest, fetch.manifest_payload, by_delta=False)

    def _ask(self) -> None:
        """Let the hub know what is missing on the broker, when it has been for a while."""
        now = time.monotonic()
        is_late = self._lacks_since is not None and now - self._lacks_since > ASK_AFTER_SECONDS
        if not (self._bad or is_late) or now < self._ask_at:
            return
        names = set(self._bad)
        if is_late:
            names |= self._fetch.awaited if self._fetch is not None else {MANIFEST}
        self._missing = sorted(names or {MANIFEST})[:MAX_MISSING]
        self._ask_at = now + self._ask_again_seconds
        self._ask_again_seconds = min(self._ask_again_seconds * 2, ASK_AGAIN_MAX_SECONDS)
        log.warning("%s parts of the roster are missing on the broker or damaged; the hub is asked", len(names))
        self.report()

    def _lacks_nothing(self) -> None:
        self._lacks_since, self._bad, self._missing = None, set(), []
        self._ask_at, self._ask_again_seconds = 0.0, ASK_AGAIN_SECONDS

    @property
    def is_newest(self) -> bool:
        """Tell whether the roster in force is the one that the hub named last."""
        current = self._store.current
        return current is not None and current.version == self.last_manifest_version

    def report(self) -> None:
        """Tell the hub which roster is in force."""
        current = self._store.current
        self._reporter.roster(current.version if current else None, self.fault or self._store.fault, self._missing)

    def _on_manifest(self, _topic: str, payload: bytes) -> None:
        if not payload:
            return
        try:
            manifest = read_manifest(payload, self._store.trust, self._store.site)
        except BadRoster as error:
            self._bad.add(MANIFEST)
            self._refuse(f"A roster manifest was refused: {error}")
            return
        self._bad.discard(MANIFEST)
        self.last_manifest_version = manifest.version
        current = self._store.current
        if current is not None and manifest.version <= current.version:
            if manifest.version < current.version:
                self._bad.add(MANIFEST)
                self._refuse(f"The hub offers roster {manifest.version}; {current.version} is in force and stays.")
            else:
                self._lacks_nothing()
                self.report()
            return
        if self._fetch is not None and self._fetch.manifest.version >= manifest.version:
            return
        self._end_fetch()
        self._begin(manifest, payload, by_delta=True)

    def _begin(self, manifest: Manifest, payload: bytes, *, by_delta: bool) -> None:
        current = self._store.current
        fetch = _Fetch(manifest, payload, set(), {}, [], time.monotonic() + FETCH_SECONDS)
        self._fetch = fetch
        self._lacks_since = self._lacks_since or time.monotonic()
        if by_delta and current is not None and (current.version, manifest.version) in manifest.deltas:
            topic = roster_delta(self._store.site, current.version, manifest.version)
            fetch.topics.append(topic)
            self._wire.on(topic, lambda message: self._locked(self._on_delta, message))
            return
        fetch.awaited = set(manifest.chunks)
        for name in sorted(fetch.awaited):
            topic = roster_chunk(self._store.site, name)
            fetch.topics.append(topic)
            self._wire.on(topic, lambda message: self._locked(self._on_chunk, message))

    def _on_delta(self, _topic: str, payload: bytes) -> None:
        fetch = self._fetch
        if fetch is None or not payload:
            return
        try:
            # A roster that cannot be read back is as good as none: no delta fits it, and the whole file is fetched.
            raw = apply_delta(self._store.raw() or b"", payload, fetch.manifest)
        except BadRoster as error:
            log.warning("a roster delta was refused, fetching the whole roster: %s", error)
            self._end_fetch()
            self._begin(fetch.manifest, fetch.manifest_payload, by_delta=False)
            return
        self._install(raw)

    def _on_chunk(self, topic: str, payload: bytes) -> None:
        fetch, name = self._fetch, topic.rpartition("/")[2]
        if fetch is None or name not in fetch.awaited or not payload:
            return
        try:
            fetch.plain[name] = open_chunk(payload, name)
        except BadRoster as error:
            self._bad.add(name)
            self._refuse(f"A roster chunk was refused: {error}")
            return
        self._bad.discard(name)
        fetch.awaited.discard(name)
        if fetch.awaited:
            return
        try:
            raw = join_chunks(fetch.manifest, fetch.plain)
        except BadRoster as error:
            self._end_fetch()
            self._bad.add(MANIFEST)
            self._refuse(f"A roster was refused: {error}")
            return
        self._install(raw)

    def _install(self, raw: bytes) -> None:
        self._end_fetch()
        try:
            fresh = self._store.install(raw)
        except BadRoster as error:
            self._bad.add(MANIFEST)
            self._refuse(f"A roster was refused: {error}")
            return
        self.fault = None
        self._lacks_nothing()
        log.info("roster %d is in force, %d cards", fresh.version, fresh.count)
        self.report()
        self._changed()

    def _end_fetch(self) -> None:
        if self._fetch is not None:
            for topic in self._fetch.topics:
                self._wire.off(topic)
            self._fetch = None

    def _refuse(self, why: str) -> None:
        self.fault = why
        log.warning("%s", why)
        self.report()
        self._changed()
