"""Recovers the hub's roster generation count from its own signatures.

After a restore the database may be behind what the hub once published. Two signed messages bring the count back: the
manifest that the broker retains, and the welcomes that gateways show in their births. A number without a signature is
ignored: one of 2^63 would block every later revocation.
"""

from __future__ import annotations

import logging

import msgspec

from gateway.errors import BadRoster
from gateway.link.messages import WELCOME_PURPOSE, Signed, Welcome
from gateway.roster.publication import read_manifest
from gateway.roster.signing import Signer, Trust

log = logging.getLogger(__name__)


class RosterCount:
    """The highest signed number of each site; the methods return whether it rose."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer.public_key.hex()
        self._floors: dict[str, int] = {}

    def floor(self, site: str) -> int:
        return self._floors.get(site, 0)

    def take_manifest(self, site: str, payload: bytes, key: bytes) -> bool:
        try:
            version = read_manifest(payload, Trust(key, self._signer), site).version
        except BadRoster as error:
            log.warning("a roster manifest of site %s is not this hub's: %s", site, error)
            return False
        return self._raise(site, version)

    def take_proof(self, site: str, gateway: str, proof: Signed, key: bytes) -> bool:
        try:
            Trust(key, self._signer).check_statement(WELCOME_PURPOSE, proof.body, proof.seal)
            welcome = msgspec.json.decode(proof.body, type=Welcome)
        except (BadRoster, msgspec.MsgspecError):
            log.warning("gateway %s/%s names a roster that this hub did not sign; it is not counted", site, gateway)
            return False
        return welcome.site == site and self._raise(site, welcome.roster)

    def _raise(self, site: str, version: int) -> bool:
        if version <= self.floor(site):
            return False
        self._floors[site] = version
        return True
