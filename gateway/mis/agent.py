"""Sources that an agent at the school reads and sends; the hub reads what arrived last (hub.sync.uploads).

    kind = "agent"
    stale_hours = 24        # older than this, what arrived last is not read again

Card numbers become card keys on the agent's machine, so this kind has no key and no encoding of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gateway.errors import SourceRefused
from gateway.mis.base import Capabilities, CheckResult, FeedItem, FieldSeen
from gateway.mis.options import Options

STALE_HOURS = 24
NOT_HERE = "The agent's reads arrive at the hub; test this source there, or run `tapgate agent check` at the school."


@dataclass(frozen=True, slots=True)
class AgentSource:
    """The settings of such a source; what it reads is opened by the hub."""

    capabilities: Capabilities
    stale_hours: int

    def check(self) -> CheckResult:
        return CheckResult("not_supported", NOT_HERE)

    def discover(self) -> Iterator[FieldSeen]:
        raise SourceRefused("not_supported", NOT_HERE)

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        del lists, cursors
        raise SourceRefused("not_supported", NOT_HERE)


def build(options: Options) -> AgentSource:
    """Read the settings of an agent's source; see the head of this file."""
    return AgentSource(options.capabilities(), options.number("stale_hours", STALE_HOURS, 1, 8784))
