"""ManageBac: only its own number of pages ends a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SourceRefused
from gateway.mis.base import Record
from gateway.simulator.mis.managebac import FakeManageBac
from gateway.simulator.mis.school import TOKEN, FakeService, Faults, sample_members
from tests.mis.contract import TellsChanges


class TestManageBac(TellsChanges):
    kind = "managebac"
    # Its pages are numbered, so nothing on a page can lead elsewhere or in a circle.
    leads = False

    def server(self) -> FakeService:
        return FakeManageBac(sample_members(100))

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        (folder / "token").write_text(TOKEN)
        return {"base_url": server.root, "token_file": "token", "card_paths": ["card_number"]}

    def test_pages_that_are_smaller_than_asked_for_are_all_read(self, service: FakeManageBac, tmp_path: Path) -> None:
        records = [item for item in self.read(service, tmp_path) if isinstance(item, Record)]
        assert len(records) == len(service.members)
        assert sum("/students" in line for line in service.log) == 3

    def test_an_empty_page_before_the_last_one_is_short(self, service: FakeManageBac, tmp_path: Path) -> None:
        meta = b'{"students": [], "teachers": [], "meta": {"total_pages": 3, "total_count": 100}}'
        service.faults = Faults(page=2, body=meta)
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == "short"
