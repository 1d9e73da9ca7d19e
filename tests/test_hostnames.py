from __future__ import annotations

import pytest

from gateway.hostnames import host_problem


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "fe80::1%eth0", "hub", "hub.school.example", "hub.local.", "a_b.example", "schüle.de"]
)
def test_names_and_addresses_that_may_exist_are_taken(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(("host", "word"), [
    ("hub..school.example", "two dots"),
    (".hub", "two dots"),
    ("a" * 64 + ".example", "63"),
    (".".join(["a" * 60] * 5), "253"),
    ("hub school", "only letters"),
    ("-hub.example", "only letters"),
    ("hub-.example", "only letters"),
    ("hub!", "only letters"),
    ("300.1.1.1", "not an address"),
    ("1.2.3", "not an address"),
    ("fe80:::1", "not an address"),
    ("ü" * 70, "not a host name"),
])  # fmt: skip
def test_what_no_resolver_takes_is_named(host: str, word: str) -> None:
    assert word in str(host_problem(host))
