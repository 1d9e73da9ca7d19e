from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.config import load_hub
from gateway.errors import ConfigError
from gateway.hub.directory.sites import check_sources
from gateway.hub.fleet.rosters import load_content
from gateway.hub.settings import prepare_store, read_settings

HUB = """
[hub]
state_dir = "hub"
broker = "mqtt://127.0.0.1:1883"

[[site]]
id = "st-marys"
site_key_file = "site.key"
"""
RULES = """
[[site.rule]]
point = "front-door"
name = "staff"
groups = ["staff"]
on_holidays = true

[[site.rule]]
point = "front-door"
name = "school hours"
groups = ["student"]
windows = ["mon-fri 07:30-18:00"]

[[site.holiday]]
first_day = 2026-12-21
last_day = 2027-01-04
"""


@pytest.fixture
def hub_toml(tmp_path: Path) -> Path:
    (tmp_path / "site.key").write_text("00" * 32, encoding="ascii")
    return tmp_path / "hub.toml"


def _content(path: Path, text: str) -> object:
    path.write_text(text, encoding="utf-8")
    store = prepare_store(read_settings(path))
    try:
        with store.read() as connection:
            return load_content(connection, "st-marys")
    finally:
        store.close()


def test_a_site_without_rules_lets_every_active_card_pass_and_says_so(
    hub_toml: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = _content(hub_toml, HUB)
    assert [rule.name for rule in content.points["*"].rules] == ["everyone"]
    assert "every active card may pass at every point" in caplog.text


def test_the_rules_of_the_file_replace_it_in_their_order_and_follow_the_file(hub_toml: Path) -> None:
    content = _content(hub_toml, HUB + RULES)
    assert set(content.points) == {"front-door"}
    staff, pupils = content.points["front-door"].rules
    assert (staff.groups, staff.schedule.windows, staff.schedule.on_holidays) == (frozenset({"staff"}), (), True)
    assert (pupils.name, len(pupils.schedule.windows)) == ("school hours", 1)
    assert content.calendar.holidays == ((date(2026, 12, 21), date(2027, 1, 4)),)
    changed = _content(hub_toml, HUB + RULES.replace("07:30", "08:00"))
    assert changed.points["front-door"].rules[1].schedule.windows[0].start.hour == 8


def test_a_window_that_cannot_be_read_is_named_by_line(hub_toml: Path) -> None:
    hub_toml.write_text(HUB + RULES.replace("mon-fri 07:30-18:00", "weekdays"), encoding="utf-8")
    settings = load_hub(hub_toml)
    check_sources(settings)
    with pytest.raises(ConfigError, match=r"hub.toml:20: site.0.rule.1.windows"):
        settings.file.finish()


def test_zone_and_point_policies_go_into_the_roster_and_follow_the_file(hub_toml: Path) -> None:
    policy = '[[site.point]]\nid = "front-door"\nunset_clock = "grant"\nstale = "staff"\nstale_after_hours = 48\n'
    policy += 'copies = "deny"\n'
    content = _content(hub_toml, HUB + 'timezone = "Australia/Perth"\n' + policy)
    assert content.zone == "Australia/Perth"
    found = content.points["front-door"]
    assert (found.unset_clock, found.stale, found.stale_after_seconds) == ("grant", "staff", 172_800)
    assert (found.copies, content.points["*"].copies) == ("deny", "log")
    assert [rule.name for rule in found.rules] == ["everyone"], "a policy takes no rule away"
    assert content.points["*"].unset_clock == "rules-without-hours"
    again = _content(hub_toml, HUB)
    assert "front-door" not in again.points


def test_the_actions_of_a_site_travel_with_its_roster(hub_toml: Path) -> None:
    action = '[[site.action]]\nname = "Lunch in town"\ndirection = "out"\nuser_types = ["Year 12", "staff"]\n'
    action += 'points = ["front-door"]\n'
    (found,) = _content(hub_toml, HUB + action).actions
    assert (found.id, found.kind, found.direction, found.points) == ("lunch-in-town", "sign", "out", ("front-door",))
    assert found.groups == {"year 12", "staff"}
    assert found.is_offered("front-door", frozenset({"student", "year 12"}))
    assert not found.is_offered("front-door", frozenset({"student", "year 11"}))
    assert not found.is_offered("back-door", frozenset({"staff"}))
    assert _content(hub_toml, HUB).actions == ()
