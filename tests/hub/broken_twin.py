"""An ingest worker that is wrong on purpose: it says `committed` first and commits with the next batch.

The fault harness must catch it losing events, or the harness proves nothing. Started as
`python -m tests.hub.broken_twin HUB_TOML`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.mqtt_share import MqttShare
from gateway.hub.ingest.parse import Incoming, read_message
from gateway.hub.settings import prepare_store, read_settings
from gateway.link.messages import Watermark
from gateway.link.topics import GatewayTopics
from gateway.service import Beats, run_service


class SaysFirst(Committer):
    """Keeps a few batches in memory although it has already told the gateways to forget them."""

    held: list[Incoming]

    def commit(self, batch: Sequence[Incoming]) -> Committed:
        self.held = [*getattr(self, "held", []), *batch]
        done = Committed()
        for incoming in batch:
            reading = read_message(incoming)
            if reading.gateway and reading.events:
                newest = max(event.seq for event, _, _ in reading.events)
                mark = Watermark(reading.events[0][0].epoch, newest)
                done.watermarks.append((GatewayTopics(reading.site, reading.gateway), mark))
        if len(self.held) >= 20:
            super().commit(self.held)
            self.held = []
        return done


def main() -> None:
    settings = read_settings(Path(sys.argv[1]))
    worker = MqttShare(settings.broker, settings.worker, SaysFirst(prepare_store(settings)))
    worker.start()
    run_service(Beats(), worker.stop)


if __name__ == "__main__":
    main()
