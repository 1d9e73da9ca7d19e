"""Whether a text can be the name of a host, before a resolver is asked."""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_MOST_LABEL, _MOST_NAME = 63, 253


def host_problem(host: str) -> str | None:
    """Return what is wrong with a host name or address, None for one that may exist (RFC 1123 section 2.1)."""
    if ":" in host or host.replace(".", "").isdigit():
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return f"{host!r} is not an address"
        return None
    try:
        # The encoder for names with other letters; it refuses empty and long labels of those too.
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return f"{host!r} is not a host name"
    labels = name.removesuffix(".").split(".")
    if not all(labels):
        return f"{host!r} has two dots in a row or begins with one"
    if any(len(label) > _MOST_LABEL for label in labels):
        return f"a part of {host!r} has more than {_MOST_LABEL} letters"
    if len(name) > _MOST_NAME:
        return f"{host!r} has more than {_MOST_NAME} letters"
    if not all(_LABEL.fullmatch(label) for label in labels):
        return f"{host!r} is not a host name: only letters, digits, hyphens and dots"
    return None
