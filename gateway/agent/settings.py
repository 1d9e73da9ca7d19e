"""agent.toml: the hub that the agent sends to, and the one source that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config import check_id, is_loopback, read_site_key
from gateway.errors import ConfigError, FatalError
from gateway.mis.base import Connector
from gateway.mis.options import Options, build_connector
from gateway.settings_file import SettingsFile
from gateway.toml_help import read_marked_text

EVERY_MINUTES = 15
KINDS = ("csv", "oneroster-csv", "sql")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """One agent.

    Attributes:
        hub: where the hub's pages are, without a slash at the end.
        source: the name that hub.toml has for this source.
        ca_file: whom to trust besides what this machine trusts, None for nobody else.
    """

    file: SettingsFile
    hub: str
    site: str
    source: str
    token_file: Path
    site_key_file: Path
    state_dir: Path
    ca_file: Path | None
    every_minutes: int
    kind: str
    options: dict[str, object]

    def connector(self) -> Connector:
        """Build the connector of the source.

        Raises:
            ConfigError: its options or the site key cannot be used.
        """
        key = read_site_key(self.site_key_file)
        problems: list[str] = []
        base = self.file.path.parent
        options = Options(self.options, base, key, lambda name, text: problems.append(f"{name}: {text}"))
        connector = build_connector(self.kind, options)
        if problems:
            raise ConfigError([f"{self.file.path}:{self.file.line_of('source')}: source.{text}" for text in problems])
        return connector

    def named_files(self) -> tuple[Path, ...]:
        """Return agent.toml and every file that it names: where one changes, what failed may work."""
        own = (self.file.path, self.token_file, self.site_key_file, *([self.ca_file] if self.ca_file else []))
        base = self.file.path.parent
        names = [name for name in self.options if name.endswith("_file") or name == "path"]
        return (*own, *(base / str(self.options[name]) for name in sorted(names)))

    def token(self) -> str:
        """Return the token that the hub made for this agent.

        Raises:
            ConfigError: its file cannot be read.
        """
        try:
            return read_marked_text(self.token_file).strip()
        except (OSError, ValueError):
            why = "cannot be read; make one on the hub with `tapgate accounts token --scopes agent:write`"
            line = self.file.line_of("agent.token_file")
            raise ConfigError([f"{self.file.path}:{line}: agent.token_file: {self.token_file} {why}."]) from None


def load_agent(path: Path) -> AgentSettings:
    """Read agent.toml.

    Raises:
        ConfigError: every problem of the file, in file order.
    """
    file = SettingsFile(path)
    for key in file.root:
        if key not in {"agent", "source"}:
            file.problem(key, "is not a known section; known sections are agent, source")
    table, source = file.table("agent"), file.table("source")
    file.finish()
    assert table is not None
    assert source is not None
    base = path.parent
    ca_file = table.take("ca_file", str, None)
    kind = source.take(
        "kind", str, check=lambda value: None if value in KINDS else f"must be one of {', '.join(KINDS)}"
    )
    settings = AgentSettings(
        file=file,
        hub=table.take("hub", str, check=_check_hub).rstrip("/"),
        site=table.take("site", str, check=check_id),
        source=table.take("source", str, "mis", check_id),
        token_file=base / table.take("token_file", str),
        site_key_file=base / table.take("site_key_file", str),
        state_dir=base / table.take("state_dir", str, "/var/lib/tapgate-agent"),
        ca_file=None if ca_file is None else base / ca_file,
        every_minutes=table.take("every_minutes", int, EVERY_MINUTES),
        kind=kind,
        options=dict(source.rest()),
    )
    if not 1 <= settings.every_minutes <= 1440:
        table.problem("every_minutes", "must be a number of minutes from 1 to 1440")
    table.finish()
    try:
        problem = file.problem
        options = Options(settings.options, base, bytes(32), lambda name, text: problem(f"source.{name}", text))
        build_connector(kind or "csv", options)
    except FatalError as error:
        file.problem("source.kind", str(error))
    file.finish()
    return settings


def _check_hub(value: str) -> str | None:
    fault = 'must be the hub\'s address, such as "https://hub.school.example"'
    try:
        parts = urlsplit(value)
        is_good = bool(parts.hostname) and parts.port != 0 and not (parts.username or parts.query)
    except ValueError:
        return fault
    if is_good and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))):
        return None
    return fault
