"""hub.toml: the settings of one hub and its sites."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from gateway.config.common import (
    BrokerSettings,
    WebSettings,
    between,
    check_id,
    check_sections,
    check_texts,
    need_path,
    one_of,
    take_broker,
    take_path,
    take_web,
    take_zone,
)
from gateway.settings_file import SettingsFile, Table

# The values of access.people, which this package may not import; a test compares the two.
UNSET_CLOCK = ("rules-without-hours", "grant", "deny")
STALE = ("warn", "staff", "deny")
SOURCE_KINDS = ("csv", "wonde", "sql", "oneroster", "managebac", "isams")


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
    """What a point does while it lacks a clock or a fresh roster; `point` is `*` for every point."""

    point: str
    unset_clock: str
    stale: str
    stale_after_hours: int


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One school.

    Attributes:
        register_times: local times at which a register opens, turns to late or closes, in order.
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


def load_hub(path: Path) -> HubSettings:
    """Read hub.toml; call `settings.file.finish()` after the connectors have checked their options.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    file = SettingsFile(path)
    check_sections(file, ("hub", "web", "site"))
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
    )
    table.finish()
    return settings


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
    site_id = item.take("id", str, check=check_id)
    site = SiteSettings(
        id=site_id,
        name=item.take("name", str, site_id),
        timezone=take_zone(item),
        site_key_file=need_path(item, "site_key_file"),
        sources=tuple(sources),
        rules=tuple(rules),
        holidays=tuple(holidays),
        register_times=_register_times(item),
        policies=tuple(policies),
        gateways=tuple(gateways),
        trust_unenrolled=item.take("trust_unenrolled", bool, False),
    )
    item.finish()
    return site


def _register_times(item: Table) -> tuple[time, ...]:
    texts = item.take("register_times", list, [])
    if not all(isinstance(text, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) for text in texts):
        item.problem("register_times", 'must be a list of local times such as ["08:50", "09:20"]')
        return ()
    return tuple(sorted({time.fromisoformat(text) for text in texts}))


def _policy(table: Table) -> PointPolicySettings:
    policy = PointPolicySettings(
        point=table.take("id", str),
        unset_clock=table.take("unset_clock", str, UNSET_CLOCK[0], one_of(UNSET_CLOCK)),
        stale=table.take("stale", str, STALE[0], one_of(STALE)),
        stale_after_hours=table.take("stale_after_hours", int, 14 * 24, between(1, 8784)),
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
