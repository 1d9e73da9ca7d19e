"""hub.toml: the settings of one hub and its sites."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config.common import (
    BrokerSettings,
    WebSettings,
    between,
    check_id,
    check_sections,
    check_texts,
    need_path,
    one_of,
    read_clock,
    take_broker,
    take_path,
    take_web,
    take_zone,
)
from gateway.config.register import RegisterSettings, take_register
from gateway.config.sign_in import SignInSettings, take_sign_in
from gateway.config.user_types import UserTypeSettings, take_user_types
from gateway.settings_file import SettingsFile, Table

# The values of access.people, which this package may not import; a test compares the two.
UNSET_CLOCK = ("rules-without-hours", "grant", "deny")
STALE = ("warn", "staff", "deny")
COPIES = ("log", "staff", "deny")
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_MOST_ADDRESSES = 20
SOURCE_KINDS = ("csv", "oneroster-csv", "sql", "agent", "gg4l", "wonde", "oneroster", "managebac", "isams")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    name: str
    kind: str
    options: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Lets groups pass at a point; `windows` as access.schedule reads them, none for always."""

    point: str
    name: str
    groups: tuple[str, ...]
    windows: tuple[str, ...]
    on_holidays: bool
    place: str


@dataclass(frozen=True, slots=True)
class PointPolicySettings:
    """What a point does without a clock or a fresh roster, and with a copied card; `point` is `*` for every point."""

    point: str
    unset_clock: str
    stale: str
    stale_after_hours: int
    copies: str


@dataclass(frozen=True, slots=True)
class MailSettings:
    """How mails leave, and who gets those about no site of its own `mail_to`.

    Attributes:
        tls: encrypted from the start; else by STARTTLS, which only a server on this machine may lack.
        sender: what stands in From.
    """

    host: str
    port: int
    tls: bool
    sender: str
    username: str | None
    password_file: Path | None
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One school.

    Attributes:
        register_times: local times at which a register starts, closes or ends, in order; without any those of the
            sessions.
        gateways: those that the broker vouches for without a certificate of this hub.
        trust_unenrolled: whether every gateway that the broker lets in is taken in; for a trial on one machine.
    """

    id: str
    name: str
    timezone: zoneinfo.ZoneInfo
    site_key_file: Path
    sources: tuple[SourceSettings, ...]
    rules: tuple[RuleSettings, ...] = ()
    holidays: tuple[tuple[date, date], ...] = ()
    register_times: tuple[time, ...] = ()
    policies: tuple[PointPolicySettings, ...] = ()
    gateways: tuple[str, ...] = ()
    trust_unenrolled: bool = False
    mail_to: tuple[str, ...] = ()
    register: RegisterSettings = field(default_factory=RegisterSettings)
    user_types: tuple[UserTypeSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class HubSettings:
    """One hub.

    Attributes:
        address: the name or address at which gateways reach the broker; stands in the bundles that are issued.
    """

    file: SettingsFile
    state_dir: Path
    database: str
    broker: BrokerSettings
    address: str | None
    ingest: str
    amqp_url: str | None
    worker: str
    signing_key_file: Path
    web: WebSettings | None
    sites: tuple[SiteSettings, ...]
    mail: MailSettings | None = None
    sign_in: SignInSettings | None = None

    def mail_to(self, site: str) -> tuple[str, ...]:
        """Return who is told about a site, or with an empty name about the hub."""
        for item in self.sites:
            if item.id == site and item.mail_to:
                return item.mail_to
        return self.mail.to if self.mail is not None else ()


def load_hub(path: Path) -> HubSettings:
    """Read hub.toml; call `settings.file.finish()` after the connectors have checked their options.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    file = SettingsFile(path)
    check_sections(file, ("hub", "web", "site", "mail", "sign_in"))
    table = file.table("hub") or Table(file, "hub", {})
    sites = [_site(file, item) for item in file.tables("site")]
    state_dir = need_path(table, "state_dir", "/var/lib/tapgate-hub")
    # The service may not write next to hub.toml, but a key that an earlier release created there stays in use.
    beside = path.parent / "hub.key"
    settings = HubSettings(
        file=file,
        state_dir=state_dir,
        database=table.take("database", str, "sqlite:///hub.db"),
        broker=take_broker(table, "broker"),
        address=table.take("address", str, None),
        ingest=table.take("ingest", str, "mqtt-share", one_of(("mqtt-share", "amqp-quorum"))),
        amqp_url=table.take("amqp_url", str, None),
        worker=table.take("worker", str, "hub-0", check_id),
        signing_key_file=take_path(table, "signing_key_file", None)
        or (beside if beside.exists() else state_dir / "hub.key"),
        web=take_web(file, 8081),
        sites=tuple(sites),
        mail=_mail(file),
        sign_in=take_sign_in(file),
    )
    table.finish()
    return settings


def _mail(file: SettingsFile) -> MailSettings | None:
    table = file.table("mail", required=False)
    if table is None:
        return None
    url = urlsplit(table.take("smtp", str, "smtp://127.0.0.1:25", _check_smtp))
    is_usable = _check_smtp(url.geturl()) is None
    settings = MailSettings(
        host=(url.hostname or "") if is_usable else "",
        port=(url.port if is_usable else None) or (465 if url.scheme == "smtps" else 587),
        tls=url.scheme == "smtps",
        sender=table.take("from", str, check=_check_address),
        username=table.take("username", str, None),
        password_file=take_path(table, "password_file", None),
        to=tuple(table.take("to", list, [], _check_addresses)),
    )
    if (settings.username is None) != (settings.password_file is None):
        table.problem("username", "needs password_file beside it, and password_file needs username")
    table.finish()
    return settings


def _check_smtp(value: str) -> str | None:
    url = urlsplit(value)
    try:
        port = url.port
    except ValueError:
        port = 0
    is_plain = not (url.username or url.password or url.path.strip("/") or url.query)
    if url.scheme in {"smtp", "smtps"} and url.hostname and port != 0 and is_plain:
        return None
    return 'must be such as "smtp://127.0.0.1:25" or "smtps://mail.example:465"; user and password have their own keys'


def _check_address(value: str) -> str | None:
    return None if _ADDRESS.fullmatch(value) else "must be a mail address such as it@school.example"


def _check_addresses(value: list[Any]) -> str | None:
    if len(value) > _MOST_ADDRESSES:
        return f"may hold {_MOST_ADDRESSES} addresses"
    if all(isinstance(item, str) and _ADDRESS.fullmatch(item) for item in value):
        return None
    return 'must be a list of mail addresses such as ["it@school.example"]'


def _site(file: SettingsFile, item: Table) -> SiteSettings:
    sources = []
    for source in file.tables("site.source", item.values, item.place):
        name = source.take("name", str, check=check_id)
        kind = source.take("kind", str, check=one_of(SOURCE_KINDS))
        sources.append(SourceSettings(name, kind, source.rest(), source.place))
    rules = [_rule(rule) for rule in file.tables("site.rule", item.values, item.place)]
    holidays = []
    for holiday in file.tables("site.holiday", item.values, item.place):
        first = holiday.take("first_day", date)
        holidays.append((first, holiday.take("last_day", date, first)))
        holiday.finish()
    gateways = []
    for gateway in file.tables("site.gateway", item.values, item.place):
        gateways.append(gateway.take("id", str, check=check_id))
        gateway.finish()
    policies = [_policy(policy) for policy in file.tables("site.point", item.values, item.place)]
    for key in ("source", "rule", "holiday", "gateway", "point"):
        item.take(key, list, [])
    register = take_register(file, item)
    user_types = take_user_types(file, item)
    site_id = item.take("id", str, check=check_id)
    site = SiteSettings(
        id=site_id,
        name=item.take("name", str, site_id),
        timezone=take_zone(item),
        site_key_file=need_path(item, "site_key_file"),
        sources=tuple(sources),
        rules=tuple(rules),
        holidays=tuple(holidays),
        register_times=_register_times(item) or _times_of(register),
        policies=tuple(policies),
        gateways=tuple(gateways),
        trust_unenrolled=item.take("trust_unenrolled", bool, False),
        mail_to=tuple(item.take("mail_to", list, [], _check_addresses)),
        register=register,
        user_types=user_types,
    )
    item.finish()
    return site


def _register_times(item: Table) -> tuple[time, ...]:
    clocks = [read_clock(text) for text in item.take("register_times", list, [])]
    if None in clocks:
        item.problem("register_times", 'must be a list of local times such as ["08:50", "09:20"]')
        return ()
    return tuple(sorted({clock for clock in clocks if clock is not None}))


def _times_of(register: RegisterSettings) -> tuple[time, ...]:
    return tuple(sorted({at for item in register.sessions for at in (item.starts, item.closes, item.ends)}))


def _policy(table: Table) -> PointPolicySettings:
    policy = PointPolicySettings(
        point=table.take("id", str),
        unset_clock=table.take("unset_clock", str, UNSET_CLOCK[0], one_of(UNSET_CLOCK)),
        stale=table.take("stale", str, STALE[0], one_of(STALE)),
        stale_after_hours=table.take("stale_after_hours", int, 14 * 24, between(1, 8784)),
        copies=table.take("copies", str, COPIES[0], one_of(COPIES)),
    )
    table.finish()
    return policy


def _rule(table: Table) -> RuleSettings:
    rule = RuleSettings(
        point=table.take("point", str),
        name=table.take("name", str),
        groups=tuple(table.take("groups", list, [], check_texts)),
        windows=tuple(table.take("windows", list, [], check_texts)),
        on_holidays=table.take("on_holidays", bool, False),
        place=table.place,
    )
    table.finish()
    return rule
