"""What the tests of mail share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hub.mail.post_office import PostOffice


@pytest.fixture
def office() -> Iterator[PostOffice]:
    office = PostOffice()
    office.open()
    yield office
    office.close()
