"""The hub's signature on watermarks: without it a gateway forgets nothing.

Whoever can write to a broker could otherwise say that the hub has taps which it never saw. The key is that of rosters
and welcomes, endorsed for the gateway's site; see roster.signing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
from sqlalchemy import select

from gateway.config import read_site_key
from gateway.errors import StoreUnavailable, TapgateError
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.messages import WATERMARK_PURPOSE, Watermark, watermark_body
from gateway.link.topics import GatewayTopics
from gateway.roster.signing import Signer

log = logging.getLogger(__name__)

Seal = Callable[[GatewayTopics, Watermark], Watermark]
_KEPT_SECONDS = 10.0


def unsealed(topics: GatewayTopics, mark: Watermark) -> Watermark:
    """Return a watermark as it is: a hub before 0.3 signed none."""
    del topics
    return mark


def read_site_keys(store: Store, sites: Collection[str] | None = None) -> dict[str, bytes]:
    """Return the key of each site, or of those named, whose key file can be read.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    site = tables.site.c
    query = select(site.id, site.key_file)
    if sites is not None:
        query = query.where(site.id.in_(sites))
    with store.read() as connection:
        files = connection.execute(query).all()
    return {site: key for site, key_file in files if (key := _read_key(site, key_file)) is not None}


class Sealer:
    """Signs watermarks; belongs to one thread.

    A site's key is read again after ten seconds: a site may come, and its key may be changed, while this runs. A
    watermark of a site whose key cannot be read goes unsigned: its gateways keep their taps and ask the hub.
    """

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store, self._signer = store, signer
        self._keys: dict[str, bytes | None] = {}
        self._read_at: dict[str, float] = {}

    def __call__(self, topics: GatewayTopics, mark: Watermark) -> Watermark:
        key = self._key(topics.site)
        if key is None:
            return mark
        body = watermark_body(topics.site, topics.gateway, mark)
        return msgspec.structs.replace(mark, seal=self._signer.seal_statement(key, WATERMARK_PURPOSE, body))

    def _key(self, site: str) -> bytes | None:
        now = time.monotonic()
        if now - self._read_at.get(site, float("-inf")) > _KEPT_SECONDS:
            self._read_at[site] = now
            try:
                self._keys[site] = read_site_keys(self._store, [site]).get(site)
            except StoreUnavailable as error:
                log.debug("the key of site %s is that of before: %s", site, error)
        return self._keys.get(site)


def _read_key(site: str, key_file: str) -> bytes | None:
    try:
        return read_site_key(Path(key_file))
    except TapgateError as error:
        log.debug("the key of site %s cannot be read: %s", site, error)
        return None
