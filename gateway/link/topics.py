"""Topic names; the only place that spells them.

All names are exact: nothing relies on retained messages reaching a wildcard, which some brokers do not deliver.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "tapgate/v1"
HUB_STATE = f"{PREFIX}/hub/state"
ALL_TAPS = f"{PREFIX}/+/+/taps"
ALL_BACKLOG = f"{PREFIX}/+/+/backlog"
ALL_STATES = f"{PREFIX}/+/+/state"
ALL_REPORTED = f"{PREFIX}/+/+/reported"
ALL_REPLIES = f"{PREFIX}/+/+/reply"


@dataclass(frozen=True, slots=True)
class GatewayTopics:
    """The topics of one gateway; site and gateway ids hold neither slashes nor dots."""

    site: str
    gateway: str

    def _name(self, last: str) -> str:
        return f"{PREFIX}/{self.site}/{self.gateway}/{last}"

    @property
    def taps(self) -> str:
        return self._name("taps")

    @property
    def backlog(self) -> str:
        return self._name("backlog")

    @property
    def ack(self) -> str:
        return self._name("ack")

    @property
    def state(self) -> str:
        return self._name("state")

    @property
    def desired(self) -> str:
        return self._name("desired")

    @property
    def reported(self) -> str:
        return self._name("reported")

    @property
    def command(self) -> str:
        return self._name("command")

    @property
    def reply(self) -> str:
        return self._name("reply")


def roster_manifest(site: str) -> str:
    return f"{PREFIX}/{site}/roster/manifest"


def roster_chunk(site: str, sha256_hex: str) -> str:
    return f"{PREFIX}/{site}/roster/chunk/{sha256_hex}"


def roster_delta(site: str, old: int, new: int) -> str:
    return f"{PREFIX}/{site}/roster/delta/{old}-{new}"


def site_presence(site: str) -> str:
    # Below roster/, which every gateway of the site may read.
    return f"{PREFIX}/{site}/roster/presence"


def parse_gateway_topic(topic: str) -> tuple[str, str, str] | None:
    """Split `tapgate/v1/SITE/GATEWAY/LAST` into its last three parts, None for any other topic."""
    parts = topic.split("/")
    if len(parts) != 5 or f"{parts[0]}/{parts[1]}" != PREFIX:
        return None
    return parts[2], parts[3], parts[4]
