"""The broker's access rights: mosquitto's ACL with literal topics for every enrolled gateway.

No rights are granted by pattern: a gateway removed from the list keeps its certificate but has no rights.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.hub.fleet.authority import HUB_USER
from gateway.link.topics import HUB_STATE, PREFIX, GatewayTopics

_HEAD = """\
# Written by `tapgate hub issue` and `revoke`; edits are overwritten. A user is the CN of a certificate.
user {hub}
topic readwrite {prefix}/#
"""


def access_list(gateways: Iterable[tuple[str, str]]) -> str:
    """Return mosquitto's acl_file for the hub and these gateways, each as (site, id)."""
    blocks = [_HEAD.format(hub=HUB_USER, prefix=PREFIX)]
    for site, gateway in sorted(set(gateways)):
        topics = GatewayTopics(site, gateway)
        lines = [f"user {site}/{gateway}"]
        up = (topics.taps, topics.backlog, topics.state, topics.reported, topics.reply)
        down = (topics.ack, topics.desired, topics.command, HUB_STATE, f"{PREFIX}/{site}/roster/#")
        lines += [f"topic write {topic}" for topic in up]
        lines += [f"topic read {topic}" for topic in down]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)
