"""Checks the driver settings of a gateway.toml, each alone and against the others."""

from __future__ import annotations

from typing import Any

from gateway.config import GatewaySettings, ReaderSettings
from gateway.edge.pins import check_pins
from gateway.readers.base import DRIVERS, parse_options


def reader_options(settings: GatewaySettings) -> dict[str, Any]:
    """Return the Options of each reader; problems and warnings go to `settings.file`."""
    options = {}
    for item in settings.readers:
        if item.driver in DRIVERS:

            def problem(key: str, message: str, place: str = item.place) -> None:
                settings.file.problem(f"{place}.{key}", message)

            try:
                options[item.id] = parse_options(item.driver, item.options, problem)
            except ImportError as error:
                problem(
                    "driver", f"needs the package {error.name or error}, which cannot be imported; install its extra"
                )
    check_pins(settings, options)
    _check_antennas(settings, options)
    _check_addresses(settings, options)
    return options


def _check_addresses(settings: GatewaySettings, options: dict[str, Any]) -> None:
    """Refuse readers on one line that share an address or differ in baud rate."""
    lines: dict[str, list[ReaderSettings]] = {}
    for item in settings.readers:
        if item.driver == "osdp" and item.id in options:
            lines.setdefault(item.port, []).append(item)
    for members in lines.values():
        first = members[0]
        holders: dict[int, str] = {}
        for item in members:
            address = options[item.id].address
            if address in holders:
                settings.file.problem(
                    f"{item.place}.address",
                    f"{address} is the address of reader {holders[address]!r} on the same line; give each its own",
                )
            holders.setdefault(address, item.id)
            if options[item.id].baud != options[first.id].baud:
                settings.file.problem(
                    f"{item.place}.baud", f"reader {first.id!r} on the same line has {options[first.id].baud}"
                )


def _check_antennas(settings: GatewaySettings, options: dict[str, Any]) -> None:
    """Refuse groups that no single bus thread can switch in turn."""
    groups: dict[str, list[ReaderSettings]] = {}
    for item in settings.readers:
        if name := getattr(options.get(item.id), "antenna_group", ""):
            groups.setdefault(name, []).append(item)
    for name, members in groups.items():
        first, *others = members
        bus = DRIVERS[first.driver].bus(first.port)
        if not others:
            settings.file.problem(
                f"{first.place}.antenna_group",
                f"no other reader is in group {name!r}; give its neighbour the same name, or remove the key",
            )
        for item in others:
            if DRIVERS[item.driver].bus(item.port) != bus:
                settings.file.problem(
                    f"{item.place}.antenna_group",
                    f"group {name!r} has reader {first.id!r} on {bus}, and only readers of one bus can take turns; "
                    f"wire both to {bus}, or move the antennas more than 10 cm apart and remove the key",
                )
