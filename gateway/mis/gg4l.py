"""GG4L: OneRoster 1.1 with credentials of its own for each district.

    kind = "gg4l"
    token_url = "https://datasync-api.gg4l.com/datahub/oauth/token"
    credentials_url = "https://datasync-api.gg4l.com/datahub/services/vendor/onboarding/credentials"
    client_id = "tapgate"
    secret_file = "/etc/tapgate-hub/gg4l.secret"
    district = "..."                                # its GUID, or its name where no other district has it
    api_hosts = []                                  # further hosts that a district's addresses may lie on

Our own token opens the list of districts that share with us; each of them has a client, a secret and an address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from gateway.mis.base import Notice
from gateway.mis.http import Refused, Transport, text_of
from gateway.mis.live import LiveSource, live_source, read_card_paths, read_transport
from gateway.mis.oauth import ClientCredentials, read_client, with_one_more_token
from gateway.mis.oneroster import OneRoster
from gateway.mis.options import Options

_NAME = "GG4L"
_WARN_DAYS = 30


@dataclass(slots=True)
class Gg4l(OneRoster):
    """One district at GG4L; the address of its service is known once its credentials are."""

    partner: Transport | None = None
    partner_client: ClientCredentials | None = None
    district: str = ""
    hosts: Collection[str] = ()

    def prepare(self) -> Iterator[Notice]:
        """Fetch the district's credentials.

        Raises:
            Refused: `not_approved`, the district does not share with us; `expired`; or as every request.
        """
        found = self._find(self._credentials())
        for key, transport in (("tokenUrl", self.client.transport), ("apiUrl", self.transport)):
            address = text_of(found.get(key))
            if not self._is_allowed(address):
                raise Refused("link_foreign", f"{_NAME} names an address of another host as {key}; nothing was sent.")
            transport.base = address if key == "tokenUrl" else address.rstrip("/") + "/"
        self.client.client_id, secret = text_of(found.get("clientId")), text_of(found.get("clientSecret"))
        self.client.secret = lambda: secret
        self.client.forget()
        yield from _look_at_expiry(text_of(found.get("expiryDate")))

    def _credentials(self) -> list[dict[str, Any]]:
        assert self.partner is not None
        assert self.partner_client is not None
        partner = self.partner
        answer = with_one_more_token(self.partner_client, lambda: partner.get(""))
        rows = answer.body
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Refused("shape", f"{_NAME} answers without the list of districts.")
        return rows

    def _find(self, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
        exact = [row for row in rows if text_of(row.get("districtGuid")) == self.district]
        named = exact or [row for row in rows if text_of(row.get("districtName")) == self.district]
        if len(named) != 1:
            why = "shares nothing with us" if not named else "is a name that several have; write the GUID"
            raise Refused("not_approved", f"The district of this source {why}; ask it to approve us at {_NAME}.")
        return named[0]

    def _is_allowed(self, address: str) -> bool:
        parts = urlsplit(address)
        assert self.partner is not None
        base = urlsplit(self.partner.base)
        return (parts.scheme, parts.netloc) == (base.scheme, base.netloc) or (
            parts.scheme == "https" and parts.hostname in self.hosts
        )


def _look_at_expiry(text: str) -> Iterator[Notice]:
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        return
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    now = datetime.now(UTC)
    if until <= now:
        raise Refused("expired", f"The credentials of this district at {_NAME} have expired; ask it to renew them.")
    if until - now < timedelta(days=_WARN_DAYS):
        yield Notice(
            f"The credentials of this district at {_NAME} end in {(until - now).days} days; have them renewed."
        )


def build(options: Options) -> LiveSource:
    """Read the settings of a GG4L source; see the head of this file."""
    ours = read_client(options, f"{_NAME}'s sign-in")
    partner = read_transport(options, "credentials_url", _NAME, ours.headers)
    partner.base = partner.base.rstrip("/")
    ours.transport.ca_file = partner.ca_file
    theirs = ClientCredentials(Transport(partner.base, dict, f"{_NAME}'s sign-in", partner.ca_file), "", str)
    service = Transport(partner.base, theirs.headers, _NAME, partner.ca_file, partner.patience_seconds)
    hosts = frozenset(options.texts("api_hosts"))
    district = options.text("district")
    source = Gg4l(service, theirs, ("people",), _NAME, False, {}, partner, ours, district, hosts)
    transports = (partner, ours.transport, theirs.transport, service)
    return live_source(options, source, read_card_paths(options), transports)
