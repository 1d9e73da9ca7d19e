from __future__ import annotations

from datetime import date, time
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config import GatewaySettings, is_loopback, load_gateway, load_hub, read_site_key
from gateway.edge.options import reader_options
from gateway.errors import ConfigError
from gateway.readers.base import DRIVERS

GATEWAY = """\
[gateway]
id = "gw-canteen"
site = "st-marys"
state_dir = "state"
timezone = "Europe/London"
site_key_file = "site.key"

[hub]
url = "mqtt://127.0.0.1:1883"

[web]
host = "127.0.0.1"
port = 8080

[[reader]]
id = "lane-1"
driver = "rc522"
port = "/dev/spidev0.0"
speed_hz = 4000000
point = "lane-1"

[[reader]]
id = "front-in"
driver = "serial-line"
port = "/dev/serial/by-id/usb-reader"
baud = 9600
encoding = "hex-msb"
point = "front-door"

[[point]]
id = "lane-1"
kind = "lane"

[[point]]
id = "front-door"
kind = "door"
strike_gpio = 17
lock = "fail-secure"
egress = "mechanical"
unlock_seconds = 5
contact_gpio = 27
rex_gpio = 22
"""
HUB = """\
[hub]
state_dir = "hub"
broker = "mqtts://broker.school.example:8883"
ca_file = "ca.crt"

[[site]]
id = "st-marys"
name = "St Mary's"
site_key_file = "site.key"
register_times = ["13:15", "09:20", "09:20"]

[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
columns = { person_key = "Student ID" }

[[site]]
id = "st-johns"
site_key_file = "site.key"
"""


def _load(tmp_path: Path, text: str) -> GatewaySettings:
    path = tmp_path / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    settings = load_gateway(path, tuple(DRIVERS))
    reader_options(settings)
    settings.file.finish()
    return settings


def _problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    return [problem.replace(str(tmp_path), "") for problem in caught.value.problems]


def test_the_documented_file_is_read_as_it_says(tmp_path: Path) -> None:
    settings = _load(tmp_path, GATEWAY)
    assert (settings.id, settings.site, settings.state_dir) == ("gw-canteen", "st-marys", tmp_path / "state")
    assert settings.hub is not None
    assert (settings.hub.host, settings.hub.port, settings.hub.tls) == ("127.0.0.1", 1883, False)
    assert [reader.driver for reader in settings.readers] == ["rc522", "serial-line"]
    assert (settings.points[1].strike_gpio, settings.points[1].unlock_seconds) == (17, 5.0)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('lock = "fail-secure"\n', "", 'point.1.lock: is missing; write lock = "fail-secure"'),
        ('egress = "mechanical"\n', "", 'point.1.egress: is missing; write egress = "mechanical"'),
        ('"fail-secure"', '"fail secure"', "point.1.lock: must be one of fail-secure, fail-safe"),
        ('"mechanical"', '"handle"', "point.1.egress: must be one of mechanical, breakglass"),
        ('"mechanical"', "true", "point.1.egress: must be a text in quotes"),
    ],
)
def test_a_door_with_a_strike_says_what_its_lock_and_its_way_out_are(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    [found] = _problems(tmp_path, GATEWAY.replace(old, new))
    assert problem in found
    (tmp_path / "site.key").write_text("ab" * 32, encoding="ascii")
    assert main(["check-config", str(tmp_path / "gateway.toml")]) == 2


def test_a_door_without_a_strike_needs_neither(tmp_path: Path) -> None:
    text = GATEWAY.replace("strike_gpio = 17\n", "").replace('lock = "fail-secure"\negress = "mechanical"\n', "")
    assert _load(tmp_path, text).points[1].lock is None


def test_a_break_glass_unit_at_a_fail_secure_lock_is_a_warning(tmp_path: Path) -> None:
    settings = _load(tmp_path, GATEWAY.replace('"mechanical"', '"breakglass"'))
    [warning] = settings.file.warnings
    assert "nobody gets out" in warning


def test_every_error_is_named_with_line_key_and_remedy_in_one_run(tmp_path: Path) -> None:
    text = (
        GATEWAY.replace('id = "gw-canteen"', 'id = "gw/canteen"')
        .replace('driver = "rc522"', 'driver = "rc532"')
        .replace("baud = 9600", 'baud = "fast"')
        .replace("unlock_seconds = 5", "unlock_secs = 5")
        .replace("rex_gpio = 22", "rex_gpio = 17")
        .replace('point = "lane-1"', 'point = "lane-9"')
    )
    assert _problems(tmp_path, text) == [
        "/gateway.toml:2: gateway.id: must be letters, digits, - and _ only, at most 63 of them",
        f"/gateway.toml:17: reader.0.driver: must be one of {', '.join(DRIVERS)}",
        "/gateway.toml:20: reader.0.point: there is no [[point]] with id 'lane-9'",
        "/gateway.toml:26: reader.1.baud: must be a whole number, got a text",
        "/gateway.toml:40: point.1.unlock_secs: is not known here; did you mean 'unlock_seconds'?",
        "/gateway.toml:42: point.1.rex_gpio: GPIO 17 is already strike_gpio of point 'front-door'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gateway\n", "/gateway.toml:1: syntax:"),
        ("", "/gateway.toml:1: gateway: is missing"),
        (GATEWAY + "\n[[readers]]\n", "readers: is not a known section; did you mean [reader]?"),
        (GATEWAY.replace("mqtt://127", "http://127"), "hub.url: must be mqtt://HOST:PORT"),
        (GATEWAY.replace("Europe/London", "Mars/Olympus"), "gateway.timezone: is not a time zone name"),
        (GATEWAY.replace("hex-msb", "hex-middle"), "reader.1.encoding: 'hex-middle' is not an encoding"),
        (GATEWAY.replace('"/dev/serial/by-id/usb-reader"', '"/dev/spidev0.0"'), "is already used by reader 'lane-1'"),
        (GATEWAY.replace('id = "front-in"', 'id = "lane-1"'), "the id 'lane-1' is used twice"),
    ],
)
def test_a_mistake_says_where_and_what_to_do(tmp_path: Path, text: str, problem: str) -> None:
    assert any(problem in item for item in _problems(tmp_path, text))


def test_the_nodes_of_a_broker_cluster_are_named_in_one_address(tmp_path: Path) -> None:
    hub = _load(tmp_path, GATEWAY.replace("mqtt://127.0.0.1:1883", "mqtts://hub-a,hub-b:8884, [::1]")).hub
    assert hub is not None
    assert hub.tls
    assert hub.places == (("hub-a", 8883), ("hub-b", 8884), ("::1", 8883))


@pytest.mark.parametrize(
    "address", ["mqtt://", "mqtt://a,", "mqtt://a,:1883", "mqtt://a:70000", "a:1883", "mqtt://a:0x1"]
)
def test_an_address_with_a_node_that_cannot_be_is_refused_whole(tmp_path: Path, address: str) -> None:
    problems = _problems(tmp_path, GATEWAY.replace("mqtt://127.0.0.1:1883", address))
    assert any("hub.url: must be mqtt://HOST:PORT" in problem for problem in problems)


@pytest.mark.parametrize("wrong", ['["9:20"]', '["24:00"]', '["09:20:30"]', "[920]", '"09:20"'])
def test_a_register_time_that_is_no_time_of_day_is_refused(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(HUB + f"register_times = {wrong}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_hub(path).file.finish()
    assert any("site.1.register_times: must be a list" in problem for problem in caught.value.problems)


def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = GATEWAY.replace("mqtt://127.0.0.1", "mqtt://user:secret-word@127.0.0.1")
    found = _problems(tmp_path, text)
    assert any("password_file" in item for item in found)
    assert not any("secret-word" in item for item in found)


def test_a_hub_file_with_two_sites_keeps_each_source_with_its_site(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(HUB, encoding="utf-8")
    hub = load_hub(path)
    hub.file.finish()
    assert [(site.id, [source.name for source in site.sources]) for site in hub.sites] == [
        ("st-marys", ["mis"]),
        ("st-johns", []),
    ]
    assert (hub.broker.tls, hub.broker.port) == (True, 8883)
    assert hub.sites[0].register_times == (time(9, 20), time(13, 15))
    assert hub.sites[0].sources[0].options["columns"] == {"person_key": "Student ID"}


def test_rules_and_holidays_of_a_site_are_read_as_they_say(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    rules = """
[[site.rule]]
point = "front-door"
name = "school hours"
groups = ["student"]
windows = ["mon-fri 07:30-18:00"]

[[site.holiday]]
first_day = 2026-12-21
last_day = 2027-01-04
"""
    path.write_text(HUB + rules, encoding="utf-8")
    hub = load_hub(path)
    hub.file.finish()
    (rule,) = hub.sites[1].rules
    assert (rule.point, rule.groups, rule.windows, rule.on_holidays) == (
        "front-door",
        ("student",),
        ("mon-fri 07:30-18:00",),
        False,
    )
    assert hub.sites[1].holidays == ((date(2026, 12, 21), date(2027, 1, 4)),)
    path.write_text(HUB + rules.replace("2026-12-21", '"soon"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="first_day: must be a date such as 2026-12-21"):
        load_hub(path).file.finish()


def test_an_unknown_source_kind_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(HUB.replace('kind = "csv"', 'kind = "cvs"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"hub.toml:14: site.0.source.0.kind: must be one of csv"):
        load_hub(path).file.finish()


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33])
def test_a_wrong_site_key_is_refused_without_being_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "site.key"
    path.write_text(content, encoding="ascii")
    with pytest.raises(ConfigError) as caught:
        read_site_key(path)
    assert "64 hex digits" in str(caught.value)
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_this_machine_is_named_by_loopback_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "hub.school.lan", "::", "", "localhost.evil.example"])
def test_no_other_name_means_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_check_config_exits_0_for_a_good_file_and_2_for_a_bad_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    (tmp_path / "site.key").write_text("00" * 32, encoding="ascii")
    path.write_text(GATEWAY, encoding="utf-8")
    assert main(["check-config", str(path)]) == 0
    assert "2 readers at 2 points" in capsys.readouterr().out
    path.write_text(GATEWAY.replace("rc522", "rc523"), encoding="utf-8")
    assert main(["check-config", str(path)]) == 2
    assert "gateway.toml:17: reader.0.driver" in capsys.readouterr().err
    assert main(["check-config", str(tmp_path / "missing.toml")]) == 2
    hub = tmp_path / "hub.toml"
    hub.write_text(HUB, encoding="utf-8")
    assert main(["check-config", str(hub)]) == 0


@pytest.mark.parametrize("host", ["hub..example", "a" * 64 + ".example", "hub_!", "300.1.1.1"])
def test_a_broker_whose_name_no_resolver_takes_is_refused_with_the_file(tmp_path: Path, host: str) -> None:
    (tmp_path / "site.key").write_text("11" * 32)
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[gateway]\nid = "gw"\nsite = "s"\nsite_key_file = "site.key"\nstate_dir = "st"\n[hub]\nurl = "mqtt://{host}"\n'
    )
    with pytest.raises(ConfigError, match="names a host that cannot be"):
        load_gateway(file, ()).file.finish()
