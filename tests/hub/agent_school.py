"""A hub behind TLS and the folder of an agent at a school; shared by the tests of the agent."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from gateway.agent.hub import Hub
from gateway.agent.settings import load_agent
from gateway.agent.work import Agent
from gateway.hub.accounts import tokens
from gateway.hub.directory.sites import list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.sync.run import Report, Wish, sync
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from gateway.webkit.server import WebServer
from tests.certificates import Authority

HUB = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "st-marys"
site_key_file = "site.key"
[[site.source]]
name = "mis"
kind = "agent"
[[site]]
id = "st-johns"
site_key_file = "site.key"
[[site.source]]
name = "mis"
kind = "agent"
"""
AGENT = """
[agent]
hub = "{hub}"
site = "{site}"
token_file = "agent.token"
site_key_file = "site.key"
state_dir = "agent-state"
ca_file = "{ca}"
[source]
{source}
"""
CSV = 'kind = "csv"\npath = "people.csv"\ncard_encoding = "hex-msb"\n'
SQL = (
    'kind = "sql"\nurl = "sqlite:///mis.db"\nview = "pupils"\n'
    'columns = {{ person_key = "id", given_name = "first", family_name = "last", card = "card" }}\n'
)
ROWS = [("007", "Ann", "Smith", "04A1B2C3D4E5F6"), ("008", "Bob", "Jones", "04A1B2C3D4E5F7")]


class School:
    """A hub behind TLS, and the folder of an agent that sends to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hubs: list[Hub] = []
        authority = Authority(folder)
        (folder / "hub.toml").write_text(HUB)
        (folder / "site.key").write_text(bytes(range(32)).hex())
        self.store: Store = prepare_store(read_settings(folder / "hub.toml"))
        access = Access(state_dir=folder, base=folder)
        app = build_office(self.store, Daemon(list, lambda: True, dict), Broadcaster(), access).app
        self.server = WebServer(app, "127.0.0.1", 0, certificate=authority.issue("hub"))
        self.server.start()
        self.ca_file = authority.ca_file
        self.token("st-marys")
        self.export(*ROWS)
        self.configure()

    def token(self, site: str, scope: str = "agent:write") -> None:
        with self.store.write() as connection:
            token = tokens.make_api_token(connection, "agent", (scope,), site, Audit("x", site, now_ms()))
        (self.folder / "agent.token").write_text(token + "\n")

    def configure(self, source: str = CSV, site: str = "st-marys", hub: str | None = None) -> None:
        text = AGENT.format(hub=hub or self.server.address, site=site, ca=self.ca_file.name, source=source)
        (self.folder / "agent.toml").write_text(text)

    def export(self, *rows: tuple[str, ...]) -> None:
        lines = ["Student ID,First,Last,Card", *(",".join(row) for row in rows)]
        (self.folder / "people.csv").write_text("\n".join(lines) + "\n")

    def agent(self) -> Agent:
        found = load_agent(self.folder / "agent.toml")
        self.hubs.append(Hub(found))
        return Agent(found.connector(), self.hubs[-1], found.state_dir)

    def sync(self, *, first: bool = False) -> Report:
        with self.store.read() as connection:
            source = next(item for item in list_sources(connection) if item.site == "st-marys")
        return sync(self.store, source, self.folder, Wish(first=first))

    def people(self) -> dict[str, str]:
        with self.store.read() as connection:
            return {row.person_key: row.state for row in connection.execute(select(tables.person))}

    def lines(self) -> list[bytes]:
        part = tables.upload_part
        with self.store.read() as connection:
            rows = connection.scalars(select(part.c.data).order_by(part.c.first_line)).all()
        return b"".join(rows).splitlines()

    def stop(self) -> None:
        for hub in self.hubs:
            hub.close()
        self.server.stop()
        self.store.close()
