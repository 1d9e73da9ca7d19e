"""An ingest worker that is wrong on purpose, as it was: its session lives on and it leaves without a word."""

from __future__ import annotations

import sys
from typing import Any

from gateway.cli import main
from gateway.hub.ingest import mqtt_share
from gateway.link.client import Link


class LastingLink(Link):
    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **{**options, "session_expiry_seconds": 7 * 86400})

    def unsubscribe(self, topics: list[str]) -> None: ...


if __name__ == "__main__":
    mqtt_share.Link = LastingLink  # type: ignore[misc]
    sys.exit(main(sys.argv[1:]))
