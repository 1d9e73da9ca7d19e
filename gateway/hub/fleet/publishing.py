"""Publishes rosters: each site's when that site has changed, when its broker may have lost it, when a gateway lacks it.

A site whose roster cannot be made is told and tried again later; the other sites go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import select

from gateway.errors import StoreUnavailable, TapgateError
from gateway.hub.directory.revision import revisions
from gateway.hub.fleet.rosters import Published, refresh
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.client import Link
from gateway.link.topics import roster_chunk, roster_delta, roster_manifest
from gateway.roster.signing import Signer

log = logging.getLogger(__name__)

RESEND_SECONDS = 30.0
FAULT_SECONDS = 30.0


class RosterPublisher:
    """Remembers which revision of each site is on the broker; used by one thread.

    Args:
        floor: returns the lowest number that the next generation of a site may follow.
        clock: in seconds.
    """

    def __init__(
        self, store: Store, signer: Signer, floor: Callable[[str], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._signer, self._floor, self._clock = store, signer, floor, clock
        self._sent: dict[str, int] = {}
        self._again: set[str] = set()
        self._lacking: set[str] = set()
        self._resent_at: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    def start_over(self, sites: Iterable[str]) -> None:
        """Send the whole roster of these sites at the next turn: the broker may have forgotten them."""
        self._again.update(sites)

    def look_again(self, site: str) -> None:
        """Look at a site at the next turn although its revision stands: its number may be too low."""
        self._sent.pop(site, None)

    def lacks(self, site: str) -> None:
        """Note that a gateway lacks parts; however often they say so, a roster goes again once in RESEND_SECONDS."""
        self._lacking.add(site)

    def turn(self, link: Link) -> None:
        """Publish what has changed since the last turn.

        Raises:
            StoreUnavailable: the database does not answer; what is due stays due.
        """
        self._heal()
        with self._store.read() as connection:
            now_at = revisions(connection)
            due = [name for name, number in now_at.items() if name in self._again or self._sent.get(name) != number]
            if not due:
                return
            site = tables.site
            files = {row.id: row.key_file for row in connection.execute(select(site.c.id, site.c.key_file))}
        for name in due:
            if self._clock() >= self._not_before.get(name, 0.0) and self._publish(link, name, Path(files[name])):
                self._sent[name] = now_at[name]

    def _publish(self, link: Link, site: str, key_file: Path) -> bool:
        resend, floor = site in self._again, self._floor(site)
        try:
            published = refresh(self._store, site, self._signer, key_file, resend=resend, floor=floor)
        except StoreUnavailable:
            raise
        except Exception as error:  # any fault of one site must not keep the others from their rosters
            self._not_before[site] = self._clock() + FAULT_SECONDS
            if isinstance(error, TapgateError):
                log.error("the roster of site %s cannot be made: %s", site, error)  # noqa: TRY400  # the text says it all
            else:
                log.exception("the roster of site %s cannot be made", site)
            return False
        if published:
            send(link, published)
        self._again.discard(site)
        self._not_before.pop(site, None)
        return True

    def _heal(self) -> None:
        now = self._clock()
        for site in sorted(self._lacking):
            if now - self._resent_at.get(site, -RESEND_SECONDS) >= RESEND_SECONDS:
                self._lacking.discard(site)
                self._resent_at[site] = now
                log.info("the roster of site %s is sent again", site)
                self._again.add(site)


def send(link: Link, published: Published) -> None:
    """Publish a generation: what the manifest names first, the manifest last, then clear what nobody needs."""
    site = published.site
    for name, payload in published.publication.chunks.items():
        link.publish(roster_chunk(site, name), payload, retain=True)
    for (old, new), payload in published.publication.deltas.items():
        link.publish(roster_delta(site, old, new), payload, retain=True)
    link.publish(roster_manifest(site), published.publication.manifest, retain=True)
    for name in published.stale_chunks:
        link.publish(roster_chunk(site, name), b"", retain=True)
    for old, new in published.stale_deltas:
        link.publish(roster_delta(site, old, new), b"", retain=True)
    log.info("roster %d of site %s is published", published.version, site)
