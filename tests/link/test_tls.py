"""mosquitto as a school runs it: TLS, a certificate for each gateway, and its name in the access rules."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from gateway.config import BrokerSettings
from gateway.link.client import Arrived, Connected, Disconnected, Link, Published
from tests.brokers import Mosquitto, needs_mosquitto
from tests.certificates import Authority
from tests.link.test_client import wait_for


@pytest.fixture
def school(tmp_path: Path) -> Authority:
    needs_mosquitto()
    return Authority(tmp_path)


def guarded_broker(school: Authority, folder: Path) -> Mosquitto:
    certificate, key = school.issue("broker")
    rules = folder / "acl"
    rules.write_text("pattern readwrite tapgate/v1/st-marys/%u/#\n")
    broker = Mosquitto(
        folder,
        f"cafile {school.ca_file}\ncertfile {certificate}\nkeyfile {key}\n"
        f"require_certificate true\nuse_identity_as_username true\nacl_file {rules}",
    )
    broker.start()
    return broker


def settings_of(broker: Mosquitto, school: Authority, files: tuple[Path, Path] | None) -> BrokerSettings:
    certificate, key = files or (None, None)
    return BrokerSettings("127.0.0.1", broker.port, True, school.ca_file, certificate, key)


def test_a_gateway_speaks_under_its_certificate_s_name_and_under_no_other(school: Authority, tmp_path: Path) -> None:
    broker = guarded_broker(school, tmp_path)
    link = Link(settings_of(broker, school, school.issue("gw-canteen")), "gw-canteen")
    link.start()
    wait_for(link, Connected)
    link.subscribe(["tapgate/v1/st-marys/gw-canteen/ack"])
    link.publish("tapgate/v1/st-marys/gw-canteen/ack", b"own")
    assert wait_for(link, Arrived).payload == b"own"
    foreign = link.publish("tapgate/v1/st-marys/gw-library/taps", b"[]")
    assert wait_for(link, Published, lambda item: item.mid == foreign).refused == "Not authorized"
    link.close()
    broker.stop()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_certificate_or_with_a_stranger_s_there_is_no_connection(school: Authority, tmp_path: Path) -> None:
    broker = guarded_broker(school, tmp_path)
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger", "other-ca").issue("gw-canteen")
    for files in (None, stranger):
        link = Link(settings_of(broker, school, files), "gw-canteen")
        link.start()
        assert wait_for(link, Disconnected).why
        assert not link.connected
        link.close()
        del link
    broker.stop()
    gc.collect()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_with_a_stranger_s_certificate_is_not_trusted(school: Authority, tmp_path: Path) -> None:
    broker = guarded_broker(school, tmp_path)
    (tmp_path / "stranger").mkdir()
    other = Authority(tmp_path / "stranger", "other-ca")
    link = Link(settings_of(broker, other, other.issue("gw-canteen")), "gw-canteen")
    link.start()
    assert "is not trusted" in wait_for(link, Disconnected).why
    assert not link.connected
    link.close()
    broker.stop()
    del link
    gc.collect()
