"""A start is never all or nothing: what cannot start costs itself, and a tap at the door still opens it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.access.people import CardEntry, CardState
from gateway.cards.identity import CardNumber, card_key
from gateway.config import load_gateway
from gateway.edge import app, startup
from gateway.edge.app import Gateway
from gateway.edge.health import BAD, WARN, verdict
from gateway.edge.panel.desk import Desk
from gateway.errors import ConfigError, JournalLocked
from gateway.journal.journal import Journal
from gateway.outputs.guard import GuardedDoor, read_guard_file
from gateway.outputs.simulated import SimulatedStrike
from gateway.readers.base import DRIVERS, CardRead
from gateway.roster.file import RosterContent, build, rule_for_everyone
from gateway.roster.signing import Signer, Trust
from gateway.roster.store import RosterStore
from gateway.simulator.chips import SimulatedTransports
from tests.certificates import Authority

SITE_KEY = bytes.fromhex("ab" * 32)
ALICE = CardNumber("uid", bytes.fromhex("04a1a2a3a4a5a6"))
CONFIG = """
[gateway]
id = "gw"
site = "st-marys"
state_dir = "state"
site_key_file = "site.key"
[[reader]]
id = "front-in"
driver = "rc522"
port = "/dev/spidev0.0"
point = "front"
[[point]]
id = "front"
kind = "door"
[[point]]
id = "lane"
kind = "lane"
"""


class House:
    """A folder as a school has it, and gateways started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.strike = SimulatedStrike()
        (folder / "site.key").write_text(SITE_KEY.hex(), encoding="ascii")
        store = RosterStore(folder / "state" / "roster", Trust(SITE_KEY), "st-marys")
        store.load()
        entry = CardEntry("p_00000000000000a1", CardState.ACTIVE, frozenset(), None, None, True)
        content = RosterContent("st-marys", 1, {card_key(SITE_KEY, ALICE): entry}, {"*": rule_for_everyone()})
        signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
        store.install(build(content, signer, SITE_KEY))

    @contextlib.contextmanager
    def running(self, config: str = CONFIG) -> Iterator[Gateway]:
        path = self.folder / "gateway.toml"
        path.write_text(config, encoding="utf-8")
        wires = SimulatedTransports()
        gateway = Gateway(load_gateway(path, tuple(DRIVERS)), wires, strikes={"front": self.strike})
        gateway.start()
        try:
            yield gateway
        finally:
            gateway.stop()
            wires.close()

    def opens(self, gateway: Gateway) -> bool:
        """Tap at the door and say whether the strike moved."""
        before = len(self.strike.changes)
        gateway.tapline.handle(CardRead("front-in", ALICE, "ntag", time.monotonic_ns()))
        return len(self.strike.changes) > before


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_MEND_SECONDS", 0.1)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _remove(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garble(path: Path) -> None:
    path.write_bytes(b"\xff\xfehello\n" * 20)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


SPOIL: tuple[Callable[[Path], None], ...] = (_remove, _empty, _garble, _make_folder, _loop)


@pytest.mark.parametrize("spoil", SPOIL)
@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file", "password_file"])
def test_each_file_of_the_hub_link_costs_the_link_and_is_tried_again(
    house: House, key: str, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(house.folder)
    cert_file, key_file = authority.issue("gw")
    password_file = house.folder / "broker.password"
    password_file.write_text("secret", encoding="utf-8")
    files = {"ca_file": authority.ca_file, "cert_file": cert_file, "key_file": key_file, "password_file": password_file}
    good = files[key].read_bytes()
    hub = '[hub]\nurl = "mqtts://127.0.0.1:9"\nusername = "gw"\n'
    hub += "".join(f'{name} = "{path.name}"\n' for name, path in files.items())
    spoil(files[key])
    with caplog.at_level(logging.ERROR), house.running(CONFIG + hub) as gateway:
        assert house.opens(gateway)
        _until(lambda: gateway.view().readers[0].state == "ready")
        view = gateway.view()
        if key == "password_file" and spoil is _garble:
            return  # any bytes that read as text are a password
        sentence = dict(view.faults)["hub link"]
        assert files[key].name in sentence or (key, spoil) == ("key_file", _garble)
        assert verdict(view).level == WARN
        assert (view.link, view.hub_configured) == ("offline", True)
        assert view.link_detail == sentence
        assert sentence in caplog.text
        if files[key].is_dir():
            files[key].rmdir()
        files[key].unlink(missing_ok=True)
        files[key].write_bytes(good)
        _until(lambda: not gateway.view().faults)
        _until(lambda: "no broker answers" in gateway.view().link_detail or gateway.view().link != "offline")


@pytest.mark.parametrize("spoil", SPOIL)
def test_without_a_site_key_every_tap_is_denied_by_name_until_the_key_is_there(
    house: House, spoil: Callable[[Path], None]
) -> None:
    path = house.folder / "site.key"
    spoil(path)
    with house.running() as gateway:
        assert not house.opens(gateway)
        _until(lambda: gateway.taps)
        assert (gateway.taps[0].decision, gateway.taps[0].reason) == ("denied", "site_key_missing")
        found = verdict(gateway.view())
        assert (found.level, found.sentence) == (BAD, "No site key: every tap is denied.")
        assert str(path) in found.remedy
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_text(SITE_KEY.hex(), encoding="ascii")
        _until(lambda: not gateway.view().faults)
        assert house.opens(gateway)


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_gateway_key_that_cannot_be_used_costs_the_checkpoints(house: House, spoil: Callable[[Path], None]) -> None:
    path = house.folder / "state" / "gateway.key"
    path.write_text("11" * 32, encoding="ascii")
    spoil(path)
    with house.running() as gateway:
        assert house.opens(gateway)
        faults = dict(gateway.view().faults)
        if spoil is _remove:
            assert faults == {}
        else:
            assert str(path) in faults["gateway key"]


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_roster_that_cannot_be_read_denies_and_says_so(house: House, spoil: Callable[[Path], None]) -> None:
    spoil(house.folder / "state" / "roster" / "current.roster")
    with house.running() as gateway:
        assert not house.opens(gateway)
        _until(lambda: gateway.taps)
        assert gateway.taps[0].reason == "roster_missing"
        _until(lambda: gateway.view().readers[0].state == "ready")
        assert verdict(gateway.view()).sentence == "No roster: every tap is denied."


@pytest.mark.parametrize("spoil", SPOIL[1:])
def test_a_spoilt_roster_gives_way_to_the_one_before(house: House, spoil: Callable[[Path], None]) -> None:
    folder = house.folder / "state" / "roster"
    (folder / "previous.roster").write_bytes((folder / "current.roster").read_bytes())
    spoil(folder / "current.roster")
    with house.running() as gateway:
        assert house.opens(gateway)
        assert gateway.view().roster_fault


def _file_for_a_folder(state: Path) -> None:
    (state / "journal").write_text("x", encoding="ascii")


def _of_another_gateway(state: Path) -> None:
    Journal.open(state / "journal", "gw-of-another-school").close()


def _folder_for_a_lock(state: Path) -> None:
    (state / "journal" / "lock").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [_file_for_a_folder, _of_another_gateway, _folder_for_a_lock])
def test_without_a_journal_the_door_opens_the_lane_does_not_serve_and_the_page_says_why(
    house: House, spoil: Callable[[Path], None]
) -> None:
    spoil(house.folder / "state")
    with house.running(CONFIG + '[hub]\nurl = "mqtt://127.0.0.1:9"\n') as gateway:
        assert house.opens(gateway)
        gateway.tapline._points_of = {"front-in": "lane"}
        gateway.tapline.handle(CardRead("front-in", ALICE, "ntag", time.monotonic_ns()))
        assert gateway.tapline.stats.unrecorded == 1
        assert gateway.seats["lane"].point.state == "idle"
        view = gateway.view()
        assert (verdict(view).level, view.journal_state) == (BAD, "alarm")
        assert "journal" in view.journal_detail
        # A journal that only waits for its folder goes on in memory, and its taps may travel.
        assert view.link == ("offline" if spoil is _of_another_gateway else "reconnecting")


def test_two_daemons_never_drive_the_same_doors(house: House) -> None:
    with house.running(), pytest.raises(JournalLocked), house.running():
        pass


READER = '[[reader]]\nid = "second"\ndriver = "{}"\nport = "{}"\npoint = "{}"\n'


@pytest.mark.parametrize(
    "reader",
    [
        READER.format("rc532", "/dev/spidev0.1", "front"),
        READER.format("rc522", "/dev/spidev0.1", "nowhere"),
        READER.format("rc522", "/dev/spidev0.0", "front"),
        READER.format("rc522", "/dev/spidev0.1", "front") + "speed_hz = 'fast'\n",
        READER.format("serial-line", "/dev/ttyUSB9", "front") + "boud = 9600\n",
        READER.format("rc522", "/dev/spidev0.1", "front") + "irq_gpio = 9\n",
        READER.format("rc522", "/dev/spidev0.1", "front") + 'antenna_group = "alone"\n',
    ],
)
def test_a_reader_whose_settings_are_wrong_costs_itself_and_check_config_refuses_it(house: House, reader: str) -> None:
    with house.running(CONFIG + reader) as gateway:
        assert house.opens(gateway)
        _until(lambda: gateway.view().readers[0].state == "ready")
        _until(lambda: gateway.view().readers[1].state == "offline")
        assert "gateway.toml:" in gateway.view().readers[1].detail
        with pytest.raises(ConfigError):
            gateway.settings.file.finish()


@pytest.mark.parametrize("error", [ImportError("libosdp.so"), OSError("no such port"), ZeroDivisionError()])
def test_a_driver_that_cannot_be_built_costs_its_reader(
    house: House, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_reader = startup.make_reader

    def make_reader(driver: str, name: str, *rest: Any) -> Any:
        if name == "second":
            raise error
        return build_reader(driver, name, *rest)

    monkeypatch.setattr(startup, "make_reader", make_reader)
    with house.running(CONFIG + READER.format("rc522", "/dev/spidev0.1", "front")) as gateway:
        assert house.opens(gateway)
        _until(lambda: gateway.view().readers[1].state == "offline")
        assert type(error).__name__ in gateway.view().readers[1].detail


def test_a_driver_module_that_cannot_be_imported_is_a_problem_of_its_reader(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gateway.readers.osdp", None)
    with house.running(CONFIG + READER.format("osdp", "/dev/ttyUSB0", "front")) as gateway:
        assert house.opens(gateway)
        _until(lambda: gateway.view().readers[1].state == "offline")
        assert "cannot be imported" in gateway.view().readers[1].detail


@pytest.mark.parametrize("config", ["[gateway", CONFIG.replace('site = "st-marys"', ""), CONFIG + "[hubb]\n"])
def test_a_file_that_does_not_read_or_names_no_site_still_refuses_to_start(house: House, config: str) -> None:
    with pytest.raises(ConfigError), house.running(config):
        pass


@pytest.mark.parametrize(
    "error", [RuntimeError("form data"), ImportError("fastapi"), SystemExit(1), OSError("port"), AssertionError()]
)
@pytest.mark.parametrize("when", ["__init__", "start"])
def test_a_page_that_cannot_start_never_stops_a_tap(
    house: House, error: BaseException, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Desk, when, fail)
    with house.running(CONFIG + "[web]\nport = 0\n") as gateway:
        assert house.opens(gateway)
        assert "pages" in dict(gateway.view().faults)


def test_a_door_of_the_release_before_is_driven_as_before_and_named(house: House) -> None:
    old = CONFIG.replace('kind = "door"\n', 'kind = "door"\nstrike_gpio = 17\n')
    with house.running(old) as gateway:
        assert house.opens(gateway)
        sentence = dict(gateway.view().faults)["door front"]
        assert "lock" in sentence
        assert "egress" in sentence
        _until(lambda: gateway.view().readers[0].state == "ready")
        assert verdict(gateway.view()).level == WARN


def test_the_guard_s_file_says_what_each_pin_is_without_the_daemon(house: House, tmp_path: Path) -> None:
    door = '[[point]]\nid = "{}"\nkind = "door"\nstrike_gpio = {}\nlock = "{}"\negress = "{}"\n'
    config = CONFIG + door.format("a", 17, "fail-secure", "mechanical") + "strike_active_low = true\n"
    config += door.format("b", 18, "fail-safe", "mechanical") + door.format("c", 23, "fail-safe", "breakglass")
    (tmp_path / "gateway.toml").write_text(config, encoding="utf-8")
    wires = SimulatedTransports()
    gateway = Gateway(load_gateway(tmp_path / "gateway.toml", tuple(DRIVERS)), wires)
    gateway.start()
    gateway.stop()
    wires.close()
    doors = [GuardedDoor("a", 17, high=True), GuardedDoor("b", 18, high=True), GuardedDoor("c", 23, high=False)]
    assert read_guard_file(tmp_path / "state" / "doors.json") == doors
