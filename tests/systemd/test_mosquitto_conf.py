"""The broker files that `tapgate hub init` and `issue` write, run by a real mosquitto: certificates, rights, limits."""

from __future__ import annotations

import argparse
import contextlib
import gc
import queue
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.commands import hub, hub_setup
from gateway.config import BrokerSettings, load_gateway, load_hub
from gateway.link.client import Arrived, Connected, Link, Published
from gateway.link.topics import HUB_STATE, GatewayTopics, roster_manifest
from tests.brokers import MOSQUITTO, free_port, wait_for_port
from tests.certificates import Authority

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="mosquitto is not installed"),
]
SITE = "st-marys"
OURS, NEXT = GatewayTopics(SITE, "gw-canteen"), GatewayTopics(SITE, "gw-front")
# The id of a gateway is unique within its site only.
FAR = GatewayTopics("perth", "gw-canteen")
NOT_OURS = [
    NEXT.taps,
    NEXT.state,
    FAR.taps,
    FAR.state,
    OURS.ack,
    OURS.command,
    roster_manifest(SITE),
    roster_manifest("perth"),
    HUB_STATE,
]


def verb(*words: str) -> int:
    parser = argparse.ArgumentParser()
    hub.add_arguments(parser)
    return hub.run(parser.parse_args([*words]))


class School:
    """Two sites on one hub that was set up by the product's own verbs, and its broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "etc" / "hub.toml"
        self.state, self.broker_dir = folder / "state", folder / "mosquitto"
        self.broker_dir.mkdir()
        self.places = ("--config", str(self.config), "--broker-dir", str(self.broker_dir))
        self.init()
        with self.config.open("a", encoding="utf-8") as file:
            file.write(f'[[site]]\nid = "perth"\nsite_key_file = "{self.state}/sites/perth.key"\n')
        assert verb("init", *self.places) == 0
        self.gateway_port, self.hub_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def init(self) -> None:
        words = ("--address", "127.0.0.1", "--site", SITE, "--state-dir", str(self.state))
        assert verb("init", *self.places, *words) == 0

    def issue(self, name: str) -> Path:
        out = self.folder / f"{name.replace('/', '-')}.tar"
        assert verb("issue", name, *self.places, "--out", str(out)) == 0
        target = self.folder / name.replace("/", "-")
        target.mkdir(exist_ok=True)
        with tarfile.open(out) as bundle:
            # Python 3.11.2 of Debian 12 knows no filters yet.
            bundle.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        self.reload()
        return target

    def start(self) -> None:
        text = (self.broker_dir / "conf.d" / "tapgate.conf").read_text(encoding="utf-8")
        for shipped, here in (
            ("listener 8883\n", f"listener {self.gateway_port} 127.0.0.1\n"),
            ("listener 8884 127.0.0.1\n", f"listener {self.hub_port} 127.0.0.1\n"),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        path = self.folder / "mosquitto.conf"
        # The settings of Debian's own mosquitto.conf, before which ours is read.
        debian = f"persistence true\npersistence_location {self.folder}/\nuser root\n"
        path.write_text(debian + text, encoding="utf-8")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", str(path)], stderr=log)
        wait_for_port(self.gateway_port)

    def reload(self) -> None:
        if self.process is not None:
            self.process.send_signal(1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def settings(self, bundle: Path) -> BrokerSettings:
        files = (bundle / "ca.crt", bundle / "gateway.crt", bundle / "gateway.key")
        return BrokerSettings("127.0.0.1", self.gateway_port, True, *files)

    def link(self, bundle: Path, client_id: str) -> Link:
        return Link(self.settings(bundle), client_id)

    def hub(self, name: str = "hub-0-fleet") -> Link:
        broker = load_hub(self.config).broker
        own = BrokerSettings("127.0.0.1", self.hub_port, True, broker.ca_file, broker.cert_file, broker.key_file)
        return Link(own, name)


@pytest.fixture
def school(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[School]:
    for name in ("SERVICE_USER", "BROKER_USER"):
        monkeypatch.setattr(hub_setup, name, "root")
    school = School(tmp_path)
    yield school
    school.stop()


def _hear(link: Link, kind: type, seconds: float = 10.0) -> object:
    deadline = time.monotonic() + seconds
    while True:
        try:
            item = link.inbox.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"no {kind.__name__} came")
        if isinstance(item, kind):
            return item


def _connect(link: Link) -> Link:
    link.start()
    _hear(link, Connected)
    return link


def _may_write(school: School, bundle: Path, topic: str) -> bool:
    # mosquitto 2.0.11 often cuts the connection after a refusal, so each topic gets one of its own.
    gateway = _connect(school.link(bundle, "st-marys/gw-canteen"))
    gateway.publish(topic, b"[]")
    answer = _hear(gateway, Published)
    assert isinstance(answer, Published)
    gateway.close()
    return answer.refused is None


def test_a_gateway_writes_its_own_topics_and_none_of_another_gateway_site_or_the_hub(school: School) -> None:
    bundle = school.issue("st-marys/gw-canteen")
    school.issue("perth/gw-canteen")
    school.start()
    own = [OURS.taps, OURS.backlog, OURS.state, OURS.reported, OURS.reply]
    assert {topic: _may_write(school, bundle, topic) for topic in own} == dict.fromkeys(own, True)
    assert {topic: _may_write(school, bundle, topic) for topic in NOT_OURS} == dict.fromkeys(NOT_OURS, False)


def test_the_harness_sees_a_broker_that_binds_no_site(school: School) -> None:
    bundle = school.issue("st-marys/gw-canteen")
    (school.broker_dir / "tapgate" / "acl").write_text("pattern write tapgate/v1/+/+/taps\n")
    school.start()
    assert _may_write(school, bundle, FAR.taps)


def test_a_gateway_hears_its_own_hub_and_site_and_nothing_of_another(school: School) -> None:
    bundle = school.issue("st-marys/gw-canteen")
    school.start()
    hub_link, gateway = _connect(school.hub()), _connect(school.link(bundle, "anything"))
    mine = [OURS.ack, OURS.command, OURS.desired, roster_manifest(SITE), HUB_STATE]
    foreign = [NEXT.ack, NEXT.taps, FAR.ack, FAR.command, roster_manifest("perth"), OURS.taps]
    gateway.subscribe([*mine, *foreign, "tapgate/v1/+/roster/#", "#"])
    for topic in (*foreign, *mine):
        hub_link.publish(topic, b"{}", retain=True)
    heard: set[str] = set()
    while not heard.issuperset(mine):
        message = _hear(gateway, Arrived)
        assert isinstance(message, Arrived)
        heard.add(message.topic)
    hub_link.close()
    gateway.close()
    assert heard == set(mine)


def test_nobody_takes_the_client_id_of_the_hub_or_of_another_gateway(school: School) -> None:
    canteen, front = school.issue("st-marys/gw-canteen"), school.issue("st-marys/gw-front")
    school.start()
    hub_link, victim = _connect(school.hub()), _connect(school.link(front, "st-marys/gw-front"))
    for stolen in ("st-marys/gw-front", "hub-0-fleet"):
        thief = _connect(school.link(canteen, stolen))
        thief.close()
    victim.subscribe([NEXT.ack])
    # What is said before the broker has the subscription is lost, and only its own word tells when it has it.
    deadline = time.monotonic() + 20
    message: object = None
    while message is None:
        assert time.monotonic() < deadline, "the gateway no longer hears the hub"
        hub_link.publish(NEXT.ack, b"still here")
        with contextlib.suppress(queue.Empty):
            found = victim.inbox.get(timeout=0.5)
            message = found if isinstance(found, Arrived) else None
    assert isinstance(message, Arrived)
    assert message.payload == b"still here"
    hub_link.close()
    victim.close()


def test_a_revoked_gateway_may_do_nothing_and_the_others_go_on(school: School) -> None:
    canteen, front = school.issue("st-marys/gw-canteen"), school.issue("st-marys/gw-front")
    school.start()
    assert _may_write(school, canteen, OURS.taps)
    assert verb("revoke", "st-marys/gw-canteen", *school.places) == 0
    school.reload()
    deadline = time.monotonic() + 5
    while _may_write(school, canteen, OURS.taps):
        assert time.monotonic() < deadline, "still let in 5 s after it was revoked"
    gateway = _connect(school.link(front, "st-marys/gw-front"))
    gateway.publish(NEXT.taps, b"[]")
    answer = _hear(gateway, Published)
    assert isinstance(answer, Published)
    assert answer.refused is None
    gateway.close()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("listener", ["gateway_port", "hub_port"])
def test_without_a_certificate_of_this_hub_nobody_gets_in(school: School, listener: str) -> None:
    other = school.folder / "other"
    other.mkdir()
    certificate, key = Authority(other).issue("gw-canteen")
    bundle = school.issue("st-marys/gw-canteen")
    school.start()
    port = getattr(school, listener)
    for files in ((certificate, key), (None, None)):
        settings = BrokerSettings("127.0.0.1", port, True, bundle / "ca.crt", *files)
        intruder = Link(settings, "st-marys/gw-canteen")
        intruder.start()
        item = intruder.inbox.get(timeout=10)
        assert not isinstance(item, Connected)
        intruder.close()
        gc.collect()


@pytest.mark.parametrize("content", [bytes(47), b"garbage", b""])
def test_the_broker_starts_whatever_a_power_cut_left_of_its_database(school: School, content: bytes) -> None:
    bundle = school.issue("st-marys/gw-canteen")
    (school.folder / "mosquitto.db").write_bytes(content)
    school.start()
    _connect(school.link(bundle, "x")).close()


def test_a_message_of_two_megabytes_is_refused_and_a_roster_chunk_fits(school: School) -> None:
    school.issue("st-marys/gw-canteen")
    school.start()
    hub_link = _connect(school.hub())
    hub_link.publish(roster_manifest(SITE), bytes(900_000))
    answer = _hear(hub_link, Published)
    assert isinstance(answer, Published)
    assert answer.refused is None
    hub_link.close()


def test_a_second_init_keeps_every_key_and_a_renewal_keeps_the_gateways_settings(school: School) -> None:
    first = school.issue("st-marys/gw-canteen")
    names = {path.name for path in first.iterdir()}
    assert names == {"ca.crt", "gateway.crt", "gateway.key", "site.key", "gateway.toml"}
    keys = {path: path.read_bytes() for path in school.state.rglob("*") if path.suffix in {".key", ".crt"}}
    assert verb("init", *school.places) == 0
    assert {path: path.read_bytes() for path in keys} == keys
    out = school.folder / "again.tar"
    assert verb("issue", "st-marys/gw-canteen", *school.places, "--out", str(out)) == 0
    with tarfile.open(out) as bundle:
        assert set(bundle.getnames()) == names - {"gateway.toml"}
        assert {(item.mode, item.gname) for item in bundle} == {(0o640, "tapgate")}


def test_the_bundle_holds_a_good_configuration_that_pins_the_hub(school: School) -> None:
    bundle = school.issue("st-marys/gw-canteen")
    settings = load_gateway(bundle / "gateway.toml", ())
    settings.file.finish()
    assert (settings.site, settings.id) == ("st-marys", "gw-canteen")
    assert settings.roster_signer is not None
    assert settings.hub is not None
    assert settings.hub.tls


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("issue", "gw-canteen"), "SITE/GATEWAY"),
        (("issue", "st-marys/../../etc"), "SITE/GATEWAY"),
        (("issue", "leeds/gw-1"), "there is no [[site]]"),
        (("revoke", "st-marys/gw-nine"), "not enrolled"),
    ],
)
def test_a_wrong_name_is_one_sentence(school: School, words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(Exception, match=problem.replace("[", r"\[")):
        verb(*words, *school.places)
