"""Configuration files: TOML to typed settings, every error as `file:line: key: message`.

One page, a little over 400 lines, so that the keys of both daemons stand side by side.

Unknown keys are errors. Secrets are only named by file; no message repeats a value of a key that names one. Settings of
a reader's driver and of an MIS source stay opaque here (`options`); the shelf that owns them checks them and reports
through `SettingsFile.problem`, so that every error of a file comes out in one run, in file order.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import string
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
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

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SITE_KEY_BYTES = 32
# The words of points.lock, which stands above this floor.
LOCK_KINDS = ("fail-secure", "fail-safe")
EGRESS_WAYS = ("mechanical", "breakglass")
POINT_KINDS = ("lane", "door", "kiosk")
# As access.people has them, which this floor does not know; a test compares the two.
UNSET_CLOCK = ("rules-without-hours", "grant", "deny")
STALE = ("warn", "staff", "deny")
SOURCE_KINDS = ("csv", "wonde", "sql", "oneroster", "managebac", "isams")


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    id: str
    driver: str
    port: str
    point: str
    options: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class PointSettings:
    """A place that people tap at; all pins are BCM numbers, None where nothing is wired.

    Attributes:
        lock: what the lock does without power, a word of points.lock; None where no strike is wired, and in a file of
            the release before.
        egress: how people get out, likewise.
    """

    id: str
    kind: str
    strike_gpio: int | None
    strike_active_low: bool
    unlock_seconds: float
    contact_gpio: int | None
    contact_open_high: bool
    rex_gpio: int | None
    held_open_seconds: float
    lock: str | None = None
    egress: str | None = None


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
        names: host names under which the pages may be asked for, besides addresses and localhost.
    """

    host: str
    port: int
    till_token_file: Path | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    file: SettingsFile
    id: str
    site: str
    state_dir: Path
    timezone: zoneinfo.ZoneInfo
    site_key_file: Path
    roster_signer: str | None
    hub: BrokerSettings | None
    web: WebSettings | None
    readers: tuple[ReaderSettings, ...]
    points: tuple[PointSettings, ...]
    journal_quota_mib: int
    journal_segment_kib: int
    journal_keep_days: int
    offline_after_seconds: float


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


def is_loopback(host: str) -> bool:
    """Tell whether a host names this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_id(value: str) -> str | None:
    """Return what is wrong with an id of a site, gateway, reader or point; None when it is good."""
    return None if _ID.fullmatch(value) else "must be letters, digits, - and _ only, at most 63 of them"


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def _between(low: float, high: float) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if low <= value <= high else f"must be from {low:g} to {high:g}"

    return check


_check_gpio = _between(0, 27)


def _zone(table: Table) -> zoneinfo.ZoneInfo:
    name = table.take("timezone", str, "Europe/London")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        table.problem("timezone", "is not a time zone name; write one such as Europe/London")
        return zoneinfo.ZoneInfo("UTC")


def _path(table: Table, key: str, default: Any = ...) -> Path | None:
    text = table.take(key, str) if default is ... else table.take(key, str, default)
    # Relative paths are relative to the configuration file, so that a folder can be moved as a whole.
    return None if text is None else table.file.path.parent / text


def _need_path(table: Table, key: str, default: Any = ...) -> Path:
    return _path(table, key, default) or Path()


def _broker(table: Table, key: str) -> BrokerSettings:
    url = table.take(key, str)
    scheme, _, nodes = url.partition("://")
    places = []
    for node in nodes.split(",") if scheme in {"mqtt", "mqtts"} else []:
        parts = urlsplit(f"{scheme}://{node.strip()}")
        if parts.username or parts.password:
            table.problem(key, "must not hold a user or password; use username and password_file")
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
        ca_file=_path(table, "ca_file", None),
        cert_file=_path(table, "cert_file", None),
        key_file=_path(table, "key_file", None),
        username=table.take("username", str, None),
        password_file=_path(table, "password_file", None),
        others=tuple(others),
    )


def _web(file: SettingsFile, port: int) -> WebSettings | None:
    table = file.table("web", required=False)
    if table is None:
        return None
    settings = WebSettings(
        host=table.take("host", str, "127.0.0.1"),
        port=table.take("port", int, port, _between(0, 65535)),
        till_token_file=_path(table, "till_token_file", None),
        names=tuple(table.take("names", list, [], _texts)),
    )
    table.finish()
    return settings


def _texts(value: list[Any]) -> str | None:
    return None if all(isinstance(item, str) for item in value) else "must be a list of texts"


def _reader(table: Table, drivers: tuple[str, ...]) -> ReaderSettings:
    return ReaderSettings(
        id=table.take("id", str, check=check_id),
        driver=table.take("driver", str, check=_one_of(drivers)),
        port=table.take("port", str),
        point=table.take("point", str, check=check_id),
        options=table.rest(),
        place=table.place,
    )


def _point(table: Table) -> PointSettings:
    settings = PointSettings(
        id=table.take("id", str, check=check_id),
        kind=table.take("kind", str, check=_one_of(POINT_KINDS)),
        strike_gpio=table.take("strike_gpio", int, None, _check_gpio),
        strike_active_low=table.take("strike_active_low", bool, False),
        unlock_seconds=table.take("unlock_seconds", float, 5.0, _between(0.1, 600)),
        contact_gpio=table.take("contact_gpio", int, None, _check_gpio),
        contact_open_high=table.take("contact_open_high", bool, True),
        rex_gpio=table.take("rex_gpio", int, None, _check_gpio),
        held_open_seconds=table.take("held_open_seconds", float, 30.0, _between(1, 3600)),
        lock=table.take("lock", str, None, _one_of(LOCK_KINDS)),
        egress=table.take("egress", str, None, _one_of(EGRESS_WAYS)),
    )
    _check_lock(table, settings)
    table.finish()
    return settings


# Their readers are told apart by settings of their own, address and pins.
_SHARING_DRIVERS = ("osdp", "wiegand")


def _check_lock(table: Table, point: PointSettings) -> None:
    if point.kind != "door" or point.strike_gpio is None:
        return
    if "lock" not in table.values:
        table.problem(
            "lock",
            'is missing; write lock = "fail-secure" for a lock that stays secured without power (a strike), or '
            'lock = "fail-safe" for one that is released without power (a maglock)',
        )
    if "egress" not in table.values:
        table.problem(
            "egress",
            'is missing; write egress = "mechanical" where a handle or panic bar always opens from inside, or '
            'egress = "breakglass" where people need a button or a break-glass unit to get out',
        )
    if (point.lock, point.egress) == ("fail-secure", "breakglass"):
        table.file.warn(
            f"{table.place}.egress",
            "a break-glass unit cuts the power, and a fail-secure lock stays secured without power: nobody gets out; "
            "fit a fail-safe lock, or a handle that opens from inside",
        )


def _check_points(file: SettingsFile, readers: list[ReaderSettings], points: list[PointSettings]) -> None:
    for place, ids in (("reader", [item.id for item in readers]), ("point", [item.id for item in points])):
        for number, name in enumerate(ids):
            if name and name in ids[:number]:
                file.problem(f"{place}.{number}.id", f"the id {name!r} is used twice")
    names = {point.id for point in points}
    ports: dict[str, ReaderSettings] = {}
    for reader in readers:
        if reader.point and reader.point not in names:
            file.problem(f"{reader.place}.point", f"there is no [[point]] with id {reader.point!r}")
        holder = ports.setdefault(reader.port, reader)
        if reader.port and holder is not reader and not holder.driver == reader.driver in _SHARING_DRIVERS:
            file.problem(
                f"{reader.place}.port",
                f"is already used by reader {holder.id!r}; only osdp readers with different addresses share a port, "
                "and wiegand readers with different pins",
            )
    pins: dict[int, str] = {}
    for number, point in enumerate(points):
        for key in ("strike_gpio", "contact_gpio", "rex_gpio"):
            pin = getattr(point, key)
            if pin in pins:
                file.problem(f"point.{number}.{key}", f"GPIO {pin} is already {pins[pin]}")
            elif pin is not None:
                pins[pin] = f"{key} of point {point.id!r}"


def load_gateway(path: Path, drivers: tuple[str, ...]) -> GatewaySettings:
    """Read gateway.toml; call `settings.file.finish()` after the drivers have checked their options.

    Args:
        drivers: names that `driver` may have.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    file = SettingsFile(path)
    _check_sections(file, ("gateway", "hub", "web", "journal", "reader", "point"))
    table = file.table("gateway") or Table(file, "gateway", {})
    hub = file.table("hub", required=False)
    journal = file.table("journal", required=False) or Table(file, "journal", {})
    readers = [_reader(item, drivers) for item in file.tables("reader")]
    points = [_point(item) for item in file.tables("point")]
    _check_points(file, readers, points)
    settings = GatewaySettings(
        file=file,
        id=table.take("id", str, check=check_id),
        site=table.take("site", str, check=check_id),
        state_dir=_need_path(table, "state_dir", "/var/lib/tapgate"),
        timezone=_zone(table),
        site_key_file=_need_path(table, "site_key_file"),
        roster_signer=table.take("roster_signer", str, None),
        hub=_broker(hub, "url") if hub else None,
        offline_after_seconds=hub.take("offline_after_seconds", float, 24.0, _between(1, 3600)) if hub else 24.0,
        web=_web(file, 8080),
        readers=tuple(readers),
        points=tuple(points),
        journal_quota_mib=journal.take("quota_mib", int, 256, _between(4, 65536)),
        journal_segment_kib=journal.take("segment_kib", int, 1024, _between(64, 65536)),
        journal_keep_days=journal.take("keep_days", int, 7, _between(0, 3650)),
    )
    for item in (table, hub, journal):
        if item:
            item.finish()
    return settings


def _site(file: SettingsFile, item: Table) -> SiteSettings:
    sources = []
    for source in file.tables("site.source", item.values, item.place):
        name = source.take("name", str, check=check_id)
        kind = source.take("kind", str, check=_one_of(SOURCE_KINDS))
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
        timezone=_zone(item),
        site_key_file=_need_path(item, "site_key_file"),
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
        unset_clock=table.take("unset_clock", str, UNSET_CLOCK[0], _one_of(UNSET_CLOCK)),
        stale=table.take("stale", str, STALE[0], _one_of(STALE)),
        stale_after_hours=table.take("stale_after_hours", int, 14 * 24, _between(1, 8784)),
    )
    table.finish()
    return policy


def _rule(table: Table) -> RuleSettings:
    rule = RuleSettings(
        point=table.take("point", str),
        name=table.take("name", str),
        groups=tuple(table.take("groups", list, [], _texts)),
        windows=tuple(table.take("windows", list, [], _texts)),
        on_holidays=table.take("on_holidays", bool, False),
        place=table.place,
    )
    table.finish()
    return rule


def load_hub(path: Path) -> HubSettings:
    """Read hub.toml; call `settings.file.finish()` after the connectors have checked their options.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    file = SettingsFile(path)
    _check_sections(file, ("hub", "web", "site"))
    table = file.table("hub") or Table(file, "hub", {})
    sites = [_site(file, item) for item in file.tables("site")]
    state_dir = _need_path(table, "state_dir", "/var/lib/tapgate-hub")
    # Beside hub.toml the service may not write; a key that an earlier release made there is still the key.
    beside = path.parent / "hub.key"
    settings = HubSettings(
        file=file,
        state_dir=state_dir,
        database=table.take("database", str, "sqlite:///hub.db"),
        broker=_broker(table, "broker"),
        address=table.take("address", str, None),
        ingest=table.take("ingest", str, "mqtt-share", _one_of(("mqtt-share", "amqp-quorum"))),
        amqp_url=table.take("amqp_url", str, None),
        worker=table.take("worker", str, "hub-0", check_id),
        signing_key_file=_path(table, "signing_key_file", None)
        or (beside if beside.exists() else state_dir / "hub.key"),
        web=_web(file, 8081),
        sites=tuple(sites),
    )
    table.finish()
    return settings


def _check_sections(file: SettingsFile, known: tuple[str, ...]) -> None:
    for key in file.root:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean [{near[0]}]?" if near else f"known sections are {', '.join(known)}"
            file.problem(key, f"is not a section of this file; {hint}")


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
    raise ConfigError([f"{path}:1: site_key_file: must hold {SITE_KEY_BYTES} bytes as 64 hex digits; {odd}."])
