"""Which way leads to which school system."""

from __future__ import annotations

import json

import pytest

from gateway.cli import main
from gateway.mis.options import KINDS
from gateway.mis.registry import SYSTEMS, routes_to

DIRECT = {"ManageBac": "managebac", "iSAMS": "isams"}
BY_WONDE = ["WCBS", "Bromcom", "SIMS", "Engage", "Furlong", "SchoolBase", "ScholarPack"]
BY_WONDE += ["RM Integris", "Arbor", "Synergetic"]
BY_GG4L = ["TASS", "PowerSchool", "InResonance", "Schoology", "Renweb", "VeraCross"]


def test_every_system_that_schools_named_has_a_route_that_this_release_can_read() -> None:
    first = {name: routes_to(name)[1][0].kind for name in (*DIRECT, *BY_WONDE, *BY_GG4L)}
    assert first == {**DIRECT, **dict.fromkeys(BY_WONDE, "wonde"), **dict.fromkeys(BY_GG4L, "gg4l")}
    assert {route.kind for routes in SYSTEMS.values() for route in routes} <= set(KINDS)


@pytest.mark.parametrize(("spelling", "name"), [("sims", "SIMS"), ("rm-integris", "RM Integris"), ("FACTS", "RenWeb")])
def test_a_system_is_found_however_it_is_spelt(spelling: str, name: str) -> None:
    assert routes_to(spelling)[0] == name


def test_the_recommended_route_comes_first_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mis", "routes", "--system", "Arbor", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Arbor: wonde is recommended: the partner watches the connection and nothing runs at the school"
    assert json.loads(lines[-1])["systems"][0]["routes"][0]["kind"] == "wonde"


def test_a_system_that_nobody_named_goes_by_a_standard_or_a_file() -> None:
    name, routes = routes_to("Homegrown MIS")
    assert name == "Homegrown MIS"
    assert [route.kind for route in routes][:2] == ["oneroster", "oneroster-csv"]
