"""Checks the drivers' own settings of a gateway.toml."""

from __future__ import annotations

from typing import Any

from gateway.config import GatewaySettings
from gateway.readers.base import DRIVERS, parse_options


def reader_options(settings: GatewaySettings) -> dict[str, Any]:
    """Give the Options of each reader; problems go to `settings.file`."""
    options = {}
    for item in settings.readers:
        if item.driver in DRIVERS:

            def problem(key: str, message: str, place: str = item.place) -> None:
                settings.file.problem(f"{place}.{key}", message)

            options[item.id] = parse_options(item.driver, item.options, problem)
    return options
