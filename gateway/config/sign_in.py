"""[sign_in] of hub.toml: where the pages are reached, how long a session lasts, and the issuers to sign in at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.common import between, check_id, is_loopback, need_path
from gateway.errors import RefusedError
from gateway.settings_file import SettingsFile, Table
from gateway.toml_help import read_marked_text

IDLE_MINUTES = 15
_MICROSOFT = "login.microsoftonline.com"
_SHARED_TENANTS = ("/common/", "/organizations/", "/consumers/")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An OpenID Connect issuer; `issuer` as its own configuration writes it."""

    name: str
    issuer: str
    client_id: str
    secret_file: Path

    def read_secret(self) -> str:
        """Return the client's secret.

        Raises:
            RefusedError: its file cannot be read.
        """
        try:
            return read_marked_text(self.secret_file).strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise RefusedError(
                f"Signing in at {self.name} does not work: its secret_file {self.secret_file} cannot be read ({why})."
            ) from None


@dataclass(frozen=True, slots=True)
class SignInSettings:
    """How people sign in to the hub's pages.

    Attributes:
        public_url: what links in mails and invitations start with, without a slash at the end.
    """

    public_url: str
    session_idle_minutes: int = IDLE_MINUTES
    issuers: tuple[IssuerSettings, ...] = ()

    @property
    def host(self) -> str:
        return urlsplit(self.public_url).hostname or ""


def take_sign_in(file: SettingsFile) -> SignInSettings | None:
    """Read the section; None when there is none."""
    table = file.table("sign_in", required=False)
    if table is None:
        return None
    issuers = [_issuer(item) for item in file.tables("sign_in.oidc", table.values, table.place)]
    table.take("oidc", list, [])
    settings = SignInSettings(
        public_url=table.take("public_url", str, check=_check_public_url).rstrip("/"),
        session_idle_minutes=table.take("session_idle_minutes", int, IDLE_MINUTES, between(1, 480)),
        issuers=tuple(issuers),
    )
    names = [item.name for item in issuers]
    for number, item in enumerate(issuers):
        if item.name in names[:number]:
            file.problem(f"sign_in.oidc.{number}.name", f"the issuer {item.name!r} is named twice; choose another name")
    table.finish()
    return settings


def _issuer(table: Table) -> IssuerSettings:
    settings = IssuerSettings(
        name=table.take("name", str, check=check_id),
        issuer=table.take("issuer", str, check=_check_issuer),
        client_id=table.take("client_id", str),
        secret_file=need_path(table, "secret_file"),
    )
    table.finish()
    return settings


def _check_public_url(value: str) -> str | None:
    if _is_address(value) and not urlsplit(value).path.strip("/"):
        return None
    return 'must be the address of the pages without a path, such as "https://hub.school.example"'


def _check_issuer(value: str) -> str | None:
    if not _is_address(value):
        return 'must be the issuer\'s address, such as "https://accounts.google.com"'
    parts = urlsplit(value)
    if parts.hostname == _MICROSOFT and any(word in f"{parts.path}/" for word in _SHARED_TENANTS):
        return "must name your own tenant, not common, organizations or consumers: anybody could sign in"
    return None


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port_is_good = parts.port != 0
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    return bool(is_safe and parts.hostname and port_is_good) and not (parts.username or parts.query or parts.fragment)
