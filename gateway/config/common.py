"""What gateway.toml and hub.toml have in common: broker, pages, site key, and the checks of single values."""

from __future__ import annotations

import difflib
import ipaddress
import re
import string
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.hostnames import host_problem
from gateway.settings_file import SettingsFile, Table
from gateway.toml_help import odd_character, read_marked_text

PLAIN_MQTT = (
    "is not encrypted and leaves this machine; use mqtts:// with the files that `tapgate hub init` and `issue` make"
)

_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SITE_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the MQTT broker is and how to prove who we are.

    Attributes:
        others: host and port of further nodes of the same cluster, tried in turn when the one in use is gone.
    """

    host: str
    port: int
    tls: bool
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    others: tuple[tuple[str, int], ...] = ()

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of every node, in the order of the settings."""
        return ((self.host, self.port), *self.others)


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the pages listen; tills beyond this machine must show the token that `till_token_file` holds.

    Attributes:
        names: host names that the pages answer to, besides addresses and localhost.
        certificate_file: with its key in `key_file`, the pages are served by TLS; None for plain HTTP.
    """

    host: str
    port: int
    till_token_file: Path | None = None
    names: tuple[str, ...] = ()
    certificate_file: Path | None = None
    key_file: Path | None = None

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """Return the files of the certificate and its key, None for plain HTTP."""
        return (self.certificate_file, self.key_file) if self.certificate_file and self.key_file else None


def is_loopback(host: str) -> bool:
    """Return whether a host names this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_id(value: str) -> str | None:
    """Return what is wrong with an id of a site, gateway, reader or point; None when it is valid."""
    return None if _ID.fullmatch(value) else "must be letters, digits, - and _ only, at most 63 of them"


def one_of(words: tuple[str, ...]) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def between(low: float, high: float) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if low <= value <= high else f"must be from {low:g} to {high:g}"

    return check


def take_zone(table: Table) -> zoneinfo.ZoneInfo:
    name = table.take("timezone", str, "Europe/London")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        table.problem("timezone", "is not a time zone name; write one such as Europe/London")
        return zoneinfo.ZoneInfo("UTC")


def take_path(table: Table, key: str, default: Any = ...) -> Path | None:
    text = table.take(key, str) if default is ... else table.take(key, str, default)
    # Relative paths are relative to the configuration file, so that a folder can be moved as a whole.
    return None if text is None else table.file.path.parent / text


def need_path(table: Table, key: str, default: Any = ...) -> Path:
    return take_path(table, key, default) or Path()


def take_broker(table: Table, key: str) -> BrokerSettings:
    url = table.take(key, str)
    scheme, _, nodes = url.partition("://")
    places = []
    for node in nodes.split(",") if scheme in {"mqtt", "mqtts"} else []:
        parts = urlsplit(f"{scheme}://{node.strip()}")
        if parts.username or parts.password:
            table.problem(key, "must not contain a user or password; use username and password_file")
        try:
            port = parts.port or (8883 if scheme == "mqtts" else 1883)
        except ValueError:
            port = 0
        if parts.hostname and (problem := host_problem(parts.hostname)):
            table.problem(key, f"names a host that cannot be: {problem}")
        if parts.hostname and port:
            places.append((parts.hostname, port))
    if url and (not places or len(places) < nodes.count(",") + 1):
        table.problem(key, "must be mqtt://HOST:PORT or mqtts://HOST:PORT, with commas between the nodes of a cluster")
    (host, port), *others = places or [("127.0.0.1", 1883)]
    return BrokerSettings(
        host=host,
        port=port,
        tls=scheme == "mqtts",
        ca_file=take_path(table, "ca_file", None),
        cert_file=take_path(table, "cert_file", None),
        key_file=take_path(table, "key_file", None),
        username=table.take("username", str, None),
        password_file=take_path(table, "password_file", None),
        others=tuple(others),
    )


def take_web(file: SettingsFile, port: int) -> WebSettings | None:
    table = file.table("web", required=False)
    if table is None:
        return None
    settings = WebSettings(
        host=table.take("host", str, "127.0.0.1"),
        port=table.take("port", int, port, between(0, 65535)),
        till_token_file=take_path(table, "till_token_file", None),
        names=tuple(table.take("names", list, [], check_texts)),
        certificate_file=take_path(table, "certificate_file", None),
        key_file=take_path(table, "key_file", None),
    )
    if (settings.certificate_file is None) != (settings.key_file is None):
        table.problem("certificate_file", "needs key_file beside it, and key_file needs certificate_file")
    table.finish()
    return settings


def read_clock(text: object) -> time | None:
    """Read a local time of day such as `08:45`, None for anything else."""
    return time.fromisoformat(text) if isinstance(text, str) and _CLOCK.fullmatch(text) else None


def check_texts(value: list[Any]) -> str | None:
    return None if all(isinstance(item, str) for item in value) else "must be a list of strings"


def check_sections(file: SettingsFile, known: tuple[str, ...]) -> None:
    for key in file.root:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean [{near[0]}]?" if near else f"known sections are {', '.join(known)}"
            file.problem(key, f"is not a known section; {hint}")


def read_site_key(path: Path) -> bytes:
    """Read the 32-byte site key, written as 64 hex digits.

    Raises:
        ConfigError: the file is missing or holds something else; the message does not repeat it.
    """
    try:
        text = read_marked_text(path).strip()
    except OSError as error:
        raise ConfigError([f"{path}:0: site_key_file: cannot be read ({error.strerror})."]) from None
    except ValueError as error:
        raise ConfigError([f"{path}:1: site_key_file: {error}."]) from None
    if len(text) == 2 * SITE_KEY_BYTES and all(character in string.hexdigits for character in text):
        return bytes.fromhex(text)
    odd = next((sentence for character in text if (sentence := odd_character(character))), "")
    if not odd:
        digits = sum(character in string.hexdigits for character in text)
        odd = f"it has {len(text)} characters, {digits} of them hex digits" if text else "it is empty"
    raise ConfigError([f"{path}:1: site_key_file: must contain {SITE_KEY_BYTES} bytes as 64 hex digits; {odd}."])
