from __future__ import annotations

import asyncio
import ssl
import threading
import urllib.request
from pathlib import Path

import pytest
from fastapi import Request, Response
from fastapi.testclient import TestClient

from gateway.errors import FatalError
from gateway.webkit.events import Broadcaster, Live
from gateway.webkit.problems import Problem
from gateway.webkit.server import WebServer
from gateway.webkit.site import STATIC, Site, asset
from tests.certificates import Authority


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "hello.html").write_text(
        '{% extends "base.html" %}{% block content %}{% block row %}<p>{{ word }}</p>{% endblock %}{% endblock %}',
        encoding="utf-8",
    )
    site = Site("Test", "gw-canteen", tmp_path)

    @site.app.get("/")
    def home(request: Request) -> Response:
        return site.page(request, "hello.html", "Hello", {"word": "<b>&"})

    @site.app.post("/act")
    def act() -> dict[str, bool]:
        return {"acted": True}

    @site.app.get("/busy")
    def busy() -> None:
        raise Problem(409, "lane-busy", "Lane busy", "Another till holds this lane; close it there.", retryable=True)

    return site


@pytest.fixture
def client(site: Site) -> TestClient:
    return TestClient(site.app, base_url="http://127.0.0.1")


def test_every_answer_carries_the_strict_policy(client: TestClient) -> None:
    for path in ("/", "/busy", "/nothing", asset("tapgate.css")):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_what_a_person_typed_is_escaped(client: TestClient) -> None:
    assert "<p>&lt;b&gt;&amp;</p>" in client.get("/").text


def test_a_block_of_a_page_can_be_sent_alone(site: Site) -> None:
    assert site.fragment("hello.html", "row", {"word": "7B"}) == "<p>7B</p>"


def test_a_request_from_a_page_of_another_site_changes_nothing(client: TestClient) -> None:
    assert client.post("/act", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/act", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/act", headers={"Origin": "http://127.0.0.1"}).json() == {"acted": True}
    assert client.post("/act").json() == {"acted": True}


def test_a_foreign_host_name_is_refused_so_that_dns_rebinding_fails(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    for good in ("127.0.0.1:8080", "[::1]:8080", "localhost", "192.168.1.20"):
        assert client.get("/", headers={"Host": good}).status_code == 200


def test_programs_get_problem_details_and_browsers_get_a_page(client: TestClient) -> None:
    answer = client.get("/busy")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:tapgate:lane-busy",
        "title": "Lane busy",
        "status": 409,
        "detail": "Another till holds this lane; close it there.",
        "instance": "/busy",
        "retryable": True,
    }
    page = client.get("/nothing", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "There is nothing at this address." in page.text


def test_assets_are_few_and_small() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 16_000


def test_events_reach_every_listener_from_any_thread_and_the_stream_ends_when_closed() -> None:
    broadcaster = Broadcaster()

    async def collect() -> list[str]:
        seen = []
        async for event in broadcaster.listen():
            if event.name == "beat":
                threading.Thread(target=broadcaster.publish, args=(Live("tap", "1"),)).start()
            else:
                seen.append(event.data)
                broadcaster.close()
        return seen

    assert asyncio.run(collect()) == ["1"]
    assert broadcaster.listeners == 0


def test_a_closed_stream_gives_no_beat_to_a_page_that_connects_again() -> None:
    broadcaster = Broadcaster()
    broadcaster.close()

    async def collect() -> list[Live]:
        return [event async for event in broadcaster.listen()]

    assert asyncio.run(collect()) == []


def test_a_page_that_does_not_keep_up_is_told_that_it_lost_events() -> None:
    broadcaster = Broadcaster()

    async def collect() -> list[Live]:
        seen = []
        async for event in broadcaster.listen():
            if event.name == "beat":
                for number in range(1000):
                    broadcaster.publish(Live("tap", str(number)))
                continue
            seen.append(event)
            if event.data == "999":
                broadcaster.close()
        return seen

    seen = asyncio.run(collect())
    assert seen[0].name == "lost"
    assert [event.data for event in seen[1:]] == [str(number) for number in range(1000 - 256, 1000)]


def test_the_server_serves_on_a_free_port_and_stops(site: Site) -> None:
    server = WebServer(site.app, "127.0.0.1", 0)
    server.start()
    try:
        with urllib.request.urlopen(server.address, timeout=5) as answer:
            assert answer.status == 200
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(FatalError, match="choose another port"):
            WebServer(site.app, "127.0.0.1", port).start()
    finally:
        server.stop()


def test_pages_are_served_by_tls_with_the_schools_certificate(site: Site, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = WebServer(site.app, "127.0.0.1", 0, certificate=authority.issue("hub"))
    server.start()
    try:
        assert server.address.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=authority.ca_file)
        with urllib.request.urlopen(server.address, context=trust, timeout=10) as answer:
            assert answer.status == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    finally:
        server.stop()


def test_a_certificate_that_cannot_be_used_is_one_sentence(site: Site, tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("hub")
    _, foreign = Authority(tmp_path, "other-ca").issue("other")
    for files in ((certificate, foreign), (certificate, tmp_path / "none"), (tmp_path / "none", foreign)):
        with pytest.raises(FatalError, match=r"cannot use the certificate .* belong together"):
            WebServer(site.app, "127.0.0.1", 0, certificate=files).start()
