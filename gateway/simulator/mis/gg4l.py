"""A server that answers as GG4L does: credentials for each district, then OneRoster with bare links."""

from __future__ import annotations

import base64
from typing import Any

from gateway.simulator.mis.oneroster import FakeOneRoster
from gateway.simulator.mis.school import Reply, Texts

PARTNER = ("tapgate", "s3:cr/et")
GUID = "0f3c-district"
_DISTRICT = ("district-client", "district-secret")


class FakeGg4l(FakeOneRoster):
    """GG4L with two districts.

    Attributes:
        expires: the day on which the credentials of the first end.
        shared: whether the first district shares with us.
    """

    paging = "bare-link"
    expires = "2999-01-01"
    shared = True
    api_url = ""

    def answer(self, method: str, path: str, query: Texts, form: Texts, headers: Texts) -> Reply:
        if path == "/datahub/oauth/token" and method == "POST":
            sent = headers.get("authorization", "")
            pairs = {
                f"Basic {base64.b64encode(pair.encode()).decode()}"
                for pair in ("tapgate:s3%3Acr%2Fet", ":".join(_DISTRICT))
            }
            if sent not in pairs:
                return Reply({"error": "invalid_client"}, 401)
            return Reply({"access_token": self.token, "token_type": "bearer", "expires_in": 7199})
        if path == "/credentials":
            return Reply(self._districts() if headers.get("authorization") == f"Bearer {self.token}" else {}, 200)
        return super().answer(method, path, query, form, headers)

    def _districts(self) -> list[dict[str, Any]]:
        row = {
            "districtName": "Fake District",
            "districtGuid": GUID,
            "clientId": _DISTRICT[0],
            "clientSecret": _DISTRICT[1],
            "tokenUrl": f"{self.root}/datahub/oauth/token",
            "apiUrl": self.api_url or self.service_url,
            "expiryDate": self.expires,
            "lastDataProcessingCompletedTimestamp": "2026-11-25T01:00:00Z",
        }
        other = {**row, "districtGuid": "another", "districtName": "Other District", "clientSecret": "x"}
        return [other, row] if self.shared else [other]
