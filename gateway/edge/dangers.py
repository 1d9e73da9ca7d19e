"""Settings that work and should still be looked at; each becomes a warning with its line."""

from __future__ import annotations

import os

from gateway.config import PLAIN_MQTT, GatewaySettings, is_loopback

_DOOR_KEYS = ("strike_gpio", "contact_gpio", "rex_gpio")


def note_dangers(settings: GatewaySettings) -> None:
    """Add the warnings of a gateway's settings to `settings.file`."""
    hub, web, file = settings.hub, settings.web, settings.file
    if hub is not None and not hub.tls and not all(is_loopback(host) for host, _ in hub.places):
        file.warn("hub.url", PLAIN_MQTT)
    if web is not None and not is_loopback(web.host):
        file.warn(
            "web.host", "shows the pages to everybody on that network, without sign-in; write 127.0.0.1 unless it must"
        )
    for number, point in enumerate(settings.points):
        if point.kind == "door":
            continue
        for key in _DOOR_KEYS:
            if getattr(point, key) is not None:
                file.warn(f"point.{number}.{key}", f'does nothing at a {point.kind}; write kind = "door" or remove it')
    _note_one_port_by_two_names(settings)


def _note_one_port_by_two_names(settings: GatewaySettings) -> None:
    first: dict[str, tuple[str, str]] = {}
    for reader in settings.readers:
        if not reader.port.startswith("/"):
            continue
        device = os.path.realpath(reader.port)
        name, port = first.setdefault(device, (reader.id, reader.port))
        # The same name twice is an error or a shared line, and judged where the readers are.
        if name != reader.id and port != reader.port:
            settings.file.warn(
                f"{reader.place}.port",
                f"is the same device as {port} of reader {name!r} ({device}); the two would take each other's bytes",
            )
