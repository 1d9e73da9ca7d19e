"""iSAMS: cards in custom fields, totals that must agree on every page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SourceRefused
from gateway.simulator.mis.isams import CLIENT, SECRET, FakeIsams
from gateway.simulator.mis.school import FakeService, Faults, sample_members
from tests.mis.contract import LiveConnector


class TestIsams(LiveConnector):
    kind = "isams"
    leads = False

    def server(self) -> FakeService:
        return FakeIsams(sample_members(100))

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        (folder / "secret").write_text(SECRET)
        return {
            "base_url": server.root,
            "client_id": CLIENT,
            "secret_file": "secret",
            "card_paths": ["customFields{name~card}.value"],
        }

    def test_a_total_that_moves_while_it_is_read_is_short(self, service: FakeIsams, tmp_path: Path) -> None:
        body = b'{"students": [], "employees": [], "page": 2, "totalPages": 2, "totalCount": 3}'
        service.faults = Faults(page=2, body=body)
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == "short"

    def test_a_secret_that_is_wrong_is_one_word(self, service: FakeIsams, tmp_path: Path) -> None:
        source = self.source(service, tmp_path)
        (tmp_path / "secret").write_text("wrong")
        with pytest.raises(SourceRefused) as found:
            list(source.fetch((), {}))
        assert found.value.failure == "refused"
