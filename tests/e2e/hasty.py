"""The daemons with the long waits of a stopped gateway made short; twins that are wrong on purpose.

With `--deaf` a hub heeds no other hub, with `--asks-nobody` it asks only at a birth, as it was; with
`--heals-no-roster` it reads no report of a roster, as it was.
"""

from __future__ import annotations

import sys

from gateway.cli import main
from gateway.edge import brake, roster_sync, standing
from gateway.hub.fleet import claim, publishing
from gateway.hub.fleet.asking import Asking
from gateway.hub.fleet.service import FleetService
from gateway.link import client

if __name__ == "__main__":
    words = sys.argv[1:]
    standing.STOPPED_ASK_SECONDS = 1.0
    roster_sync.ASK_AFTER_SECONDS = 1.0
    publishing.RESEND_SECONDS = 3.0
    # These tests tap strangers' cards by the hundred.
    brake.UNKNOWN_LIMIT = 1 << 30
    client._PATIENT_DELAYS = (0.5, 1.0)
    defaults = FleetService.__init__.__kwdefaults__
    assert defaults is not None
    defaults["twin_quiet_ms"] = 6_000
    if "--deaf" in words:
        words.remove("--deaf")
        claim.Claim.heard = lambda *_args, **_options: False  # type: ignore[method-assign,assignment]
    if "--heals-no-roster" in words:
        words.remove("--heals-no-roster")
        FleetService._on_reported = lambda *_args: None  # type: ignore[method-assign]
    if "--asks-nobody" in words:
        words.remove("--asks-nobody")
        Asking.missing = lambda *_args: []  # type: ignore[method-assign,assignment]
        Asking.unborn = lambda *_args: []  # type: ignore[method-assign,assignment]
        FleetService._ask_for_birth = lambda *_args: None  # type: ignore[method-assign,assignment]
    sys.exit(main(words))
