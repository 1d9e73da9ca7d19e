"""gateway.toml: the settings of one gateway, its readers and its points."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.common import (
    BrokerSettings,
    WebSettings,
    between,
    check_id,
    check_sections,
    need_path,
    one_of,
    take_broker,
    take_web,
    take_zone,
)
from gateway.settings_file import SettingsFile, Table

# The values of points.lock, which this package may not import; a test compares the two.
LOCK_KINDS = ("fail-secure", "fail-safe")
EGRESS_WAYS = ("mechanical", "breakglass")
POINT_KINDS = ("lane", "door", "kiosk")

_check_gpio = between(0, 27)
# Several readers of these drivers share a port; address or pins tell them apart.
_SHARING_DRIVERS = ("osdp", "wiegand")


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
        lock: what the lock does without power, a value of points.lock; None where no strike is wired, and in a file of
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


def load_gateway(path: Path, drivers: tuple[str, ...]) -> GatewaySettings:
    """Read gateway.toml; call `settings.file.finish()` after the drivers have checked their options.

    Args:
        drivers: names that `driver` may have.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    file = SettingsFile(path)
    check_sections(file, ("gateway", "hub", "web", "journal", "reader", "point"))
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
        state_dir=need_path(table, "state_dir", "/var/lib/tapgate"),
        timezone=take_zone(table),
        site_key_file=need_path(table, "site_key_file"),
        roster_signer=table.take("roster_signer", str, None),
        hub=take_broker(hub, "url") if hub else None,
        offline_after_seconds=hub.take("offline_after_seconds", float, 24.0, between(1, 3600)) if hub else 24.0,
        web=take_web(file, 8080),
        readers=tuple(readers),
        points=tuple(points),
        journal_quota_mib=journal.take("quota_mib", int, 256, between(4, 65536)),
        journal_segment_kib=journal.take("segment_kib", int, 1024, between(64, 65536)),
        journal_keep_days=journal.take("keep_days", int, 7, between(0, 3650)),
    )
    for item in (table, hub, journal):
        if item:
            item.finish()
    return settings


def _reader(table: Table, drivers: tuple[str, ...]) -> ReaderSettings:
    return ReaderSettings(
        id=table.take("id", str, check=check_id),
        driver=table.take("driver", str, check=one_of(drivers)),
        port=table.take("port", str),
        point=table.take("point", str, check=check_id),
        options=table.rest(),
        place=table.place,
    )


def _point(table: Table) -> PointSettings:
    settings = PointSettings(
        id=table.take("id", str, check=check_id),
        kind=table.take("kind", str, check=one_of(POINT_KINDS)),
        strike_gpio=table.take("strike_gpio", int, None, _check_gpio),
        strike_active_low=table.take("strike_active_low", bool, False),
        unlock_seconds=table.take("unlock_seconds", float, 5.0, between(0.1, 600)),
        contact_gpio=table.take("contact_gpio", int, None, _check_gpio),
        contact_open_high=table.take("contact_open_high", bool, True),
        rex_gpio=table.take("rex_gpio", int, None, _check_gpio),
        held_open_seconds=table.take("held_open_seconds", float, 30.0, between(1, 3600)),
        lock=table.take("lock", str, None, one_of(LOCK_KINDS)),
        egress=table.take("egress", str, None, one_of(EGRESS_WAYS)),
    )
    _check_lock(table, settings)
    table.finish()
    return settings


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
                f"is already used by reader {holder.id!r}; only osdp readers with different addresses and "
                "wiegand readers with different pins can share a port",
            )
    pins: dict[int, str] = {}
    for number, point in enumerate(points):
        for key in ("strike_gpio", "contact_gpio", "rex_gpio"):
            pin = getattr(point, key)
            if pin in pins:
                file.problem(f"point.{number}.{key}", f"GPIO {pin} is already {pins[pin]}")
            elif pin is not None:
                pins[pin] = f"{key} of point {point.id!r}"
