from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.hub.store.engine import Store, open_store
from tests.hub.samples import add_site


@pytest.fixture
def key_file(tmp_path: Path, site_key: bytes) -> Path:
    path = tmp_path / "site.key"
    path.write_text(site_key.hex())
    return path


@pytest.fixture
def store(tmp_path: Path, key_file: Path) -> Iterator[Store]:
    opened = open_store("sqlite:///hub.db", tmp_path)
    opened.migrate()
    add_site(opened, key_file)
    yield opened
    opened.close()
