"""Builds the hub daemon from its settings.

Roles: any number of `ingest` processes may share one database, `web` serves the pages, `sync` reads the MIS and talks
to the gateways; `all` is every role in one process.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.config import HubSettings
from gateway.errors import FatalError, StoreUnavailable
from gateway.hub.accounts.links import Mailer
from gateway.hub.facts.runner import Facts
from gateway.hub.fleet.service import FleetService
from gateway.hub.fleet.watch import Watch
from gateway.hub.ingest.amqp_quorum import AmqpQuorum
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.engine import Ingest
from gateway.hub.ingest.fence import Fence
from gateway.hub.ingest.mqtt_share import MqttShare
from gateway.hub.ingest.seals import Seal, Sealer
from gateway.hub.mail.outbox import post
from gateway.hub.mail.sender import MailSender
from gateway.hub.settings import prepare_store
from gateway.hub.store.engine import Store
from gateway.hub.sync.jobs import source_work
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.live import LogFeed
from gateway.hub.web.office import Daemon
from gateway.hub.work.runner import Runner
from gateway.roster.signing import load_or_create_signer
from gateway.service import Beats
from gateway.webkit.events import Broadcaster
from gateway.webkit.server import WebServer

log = logging.getLogger(__name__)

_LOOP_SECONDS = 60.0
# A mail server may take its time for each of several steps.
_MAIL_SECONDS = 300.0
_STORE_PATIENCE_SECONDS = 60.0


class Part(Protocol):
    """A part of the hub that starts and stops with it."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(slots=True)
class Hub:
    """The running hub; parts start in order and stop in reverse.

    Attributes:
        web: None when this process shows no pages.
        web_fault: why it shows none although it should.
    """

    store: Store
    beats: Beats
    parts: list[Part] = field(default_factory=list)
    web: WebServer | None = None
    web_fault: str | None = None
    ingest: Ingest | None = None
    fleet: FleetService | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Start every part; if one fails, stop those started before it."""
        started: list[Part] = []
        try:
            for part in self.parts:
                try:
                    part.start()
                except FatalError as error:
                    if part is not self.web or self.fleet is None:
                        raise
                    # Taps and rosters do not wait for somebody to renew the certificate of the pages.
                    self.web, self.web_fault = None, str(error)
                    continue
                started.append(part)
        except BaseException:
            for part in reversed(started):
                part.stop()
            raise

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()
        self.store.close()

    def connected(self) -> bool | None:
        """Return whether the parts that need the broker are connected, None when there are none."""
        needing = [part for part in (self.ingest, self.fleet) if part is not None]
        return all(part.connected for part in needing) if needing else None

    def status(self) -> str:
        """Return one line for the service manager about what this process does."""
        link = {True: "broker connected", False: "broker away", None: "no broker needed"}[self.connected()]
        pages = f"; no pages: {self.web_fault}" if self.web_fault else ""
        return f"{link}, {self.counts['fresh']} events committed{pages}"


def build(settings: HubSettings, role: str = "all", *, on_commit: Callable[[Committed], None] | None = None) -> Hub:
    """Build the hub; nothing runs yet.

    Args:
        on_commit: called after every durable commit, on the ingest thread; must not wait.

    Raises:
        ConfigError, FatalError: the settings cannot be used; the text says what to change.
        StoreUnavailable: the database did not answer for a minute.
    """
    store = _patient_store(settings, follow=role in {"all", "sync"})
    try:
        return _assemble(settings, role, store, on_commit)
    except BaseException:
        store.close()
        raise


def _mailer(settings: HubSettings) -> Mailer | None:
    # A link needs the public address of the pages: the name that a request came for may be anybody's.
    if settings.mail is None or settings.sign_in is None:
        return None
    return Mailer(post, settings.sign_in.public_url)


def _assemble(settings: HubSettings, role: str, store: Store, on_commit: Callable[[Committed], None] | None) -> Hub:
    hub = Hub(store, Beats())
    live = Broadcaster()
    feed: LogFeed | None = None
    if settings.web is not None and role in {"all", "web"}:
        daemon = Daemon(hub.beats.overdue, hub.connected, lambda: dict(hub.counts))
        access = Access(
            settings.sign_in, settings.web.names, settings.state_dir, settings.file.path.parent, _mailer(settings)
        )
        site = build_office(store, daemon, live, access)
        feed = LogFeed(store, site, live)
        hub.web = WebServer(site.app, settings.web.host, settings.web.port, live, certificate=settings.web.certificate)

    def committed(done: Committed) -> None:
        hub.counts.update(fresh=done.fresh, again=done.again, quarantined=done.quarantined)
        if on_commit is not None:
            on_commit(done)

    if role in {"all", "sync"}:
        signer = load_or_create_signer(settings.signing_key_file)
        beat = hub.beats.register("fleet", _LOOP_SECONDS)
        hub.fleet = FleetService(settings.broker, settings.worker, store, signer, beat=beat)
        hub.parts.append(hub.fleet)
        hub.parts.append(Watch(store, beat=hub.beats.register("watch", _LOOP_SECONDS)))
        hub.parts.append(Facts(store, beat=hub.beats.register("facts", _LOOP_SECONDS)))
        work = source_work(store, settings.file.path.parent)
        holder = f"{settings.worker}-{secrets.token_hex(4)}"
        hub.parts.append(Runner(store, holder, work, beat=hub.beats.register("work", _LOOP_SECONDS)))
        if settings.mail is not None:
            beat = hub.beats.register("mail", _MAIL_SECONDS)
            hub.parts.append(MailSender(store, settings.mail, settings.mail_to, beat=beat))
    if role in {"all", "ingest"}:
        beat = hub.beats.register("ingest", _LOOP_SECONDS)
        signer = load_or_create_signer(settings.signing_key_file)
        hub.ingest = _ingest(settings, Committer(store), Fence(store), beat, committed, Sealer(store, signer))
        hub.parts.append(hub.ingest)
    if hub.web is not None and feed is not None:
        hub.parts += [feed, hub.web]
    return hub


def _ingest(
    settings: HubSettings,
    committer: Committer,
    fence: Fence,
    beat: Callable[[], None],
    committed: Callable[[Committed], None],
    seal: Seal,
) -> Ingest:
    options: Any = {"fence": fence.why, "beat": beat, "on_commit": committed, "seal": seal}
    if settings.ingest == "mqtt-share":
        return MqttShare(settings.broker, settings.worker, committer, **options)
    return AmqpQuorum(settings.amqp_url or "", settings.broker, settings.worker, committer, **options)


def _patient_store(settings: HubSettings, *, follow: bool) -> Store:
    # After a power cut the database may need a while to come back; the hub cannot start without it.
    deadline = time.monotonic() + _STORE_PATIENCE_SECONDS
    while True:
        try:
            return prepare_store(settings, follow=follow)
        except StoreUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s Trying again.", error)
        threading.Event().wait(2.0)
