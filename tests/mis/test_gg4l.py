"""GG4L: credentials of the district first, addresses of its own host only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SourceRefused
from gateway.mis.base import Notice
from gateway.simulator.mis.gg4l import GUID, PARTNER, FakeGg4l
from gateway.simulator.mis.school import FakeService, sample_members
from tests.mis.contract import TellsChanges


class TestGg4l(TellsChanges):
    kind = "gg4l"
    requests = 2

    def server(self) -> FakeService:
        return FakeGg4l(sample_members(120))

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        (folder / "secret").write_text(PARTNER[1])
        return {
            "token_url": f"{server.root}/datahub/oauth/token",
            "credentials_url": f"{server.root}/credentials",
            "client_id": PARTNER[0],
            "secret_file": "secret",
            "district": GUID,
            "card_paths": ["userIds{type~rfid}.identifier"],
        }

    def test_a_district_is_named_by_its_guid_or_its_name(self, service: FakeGg4l, tmp_path: Path) -> None:
        assert self.source(service, tmp_path, district="Fake District").check().ok
        assert self.source(service, tmp_path, district="Nowhere").check().failure == "not_approved"
        service.shared = False
        assert self.source(service, tmp_path).check().failure == "not_approved"

    def test_credentials_that_end_are_told_before_and_refused_after(self, service: FakeGg4l, tmp_path: Path) -> None:
        service.expires = (datetime.now(UTC) + timedelta(days=10)).isoformat()
        notices = [item.text for item in self.read(service, tmp_path) if isinstance(item, Notice)]
        assert any("end in 9 days" in text for text in notices)
        service.expires = "2020-01-01"
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == "expired"

    def test_an_address_of_another_host_gets_no_secret(self, service: FakeGg4l, tmp_path: Path) -> None:
        service.api_url = "http://127.0.0.1:1/elsewhere"
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == "link_foreign"
