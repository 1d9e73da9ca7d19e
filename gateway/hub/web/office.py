"""What every part of the hub's pages is built with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI

from gateway.hub.store.engine import Store
from gateway.hub.web.gate import Gate
from gateway.webkit.events import Broadcaster
from gateway.webkit.site import Site


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the pages may know about the running hub.

    Attributes:
        hanging: names of loops that have stopped beating.
        connected: whether the parts that need the broker have it; None when none runs in this process.
        counts: what this process has committed since its start.
    """

    hanging: Callable[[], list[str]]
    connected: Callable[[], bool | None]
    counts: Callable[[], dict[str, int]]


@dataclass(frozen=True, slots=True)
class Office:
    """The application while its parts add their addresses to it."""

    site: Site
    store: Store
    gate: Gate
    daemon: Daemon
    live: Broadcaster

    @property
    def app(self) -> FastAPI:
        return self.site.app
