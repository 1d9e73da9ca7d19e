"""Gateways that may send for their site: enrolled when a bundle is issued, removed when it is revoked."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from gateway.errors import RefusedError
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.rows import insert_if_new


def enrol(connection: Connection, site: str, name: str, *, actor: str, certificate_until_ms: int | None = None) -> bool:
    """Enrol a gateway, or renew its certificate's date; return whether it is new.

    Raises:
        RefusedError: the hub has no such site.
    """
    if connection.scalar(select(tables.site.c.id).where(tables.site.c.id == site)) is None:
        raise RefusedError(f"The hub has no site {site!r}; add a [[site]] with this id to hub.toml first.")
    table = tables.gateway
    insert_if_new(connection, table, {"site": site, "name": name})
    here = (table.c.site == site, table.c.name == name)
    is_new = connection.scalar(select(table.c.enrolled_ms).where(*here)) is None
    values: dict[str, object] = {"enrolled_ms": now_ms()} if is_new else {}
    if certificate_until_ms is not None:
        values["certificate_until_ms"] = certificate_until_ms
    if values:
        connection.execute(update(table).where(*here).values(values))
        audit = Audit(actor, site, now_ms())
        audit.note("gateway_enrol" if is_new else "gateway_renew", name)
        audit.write(connection)
    return is_new


def revoke(connection: Connection, site: str, name: str, *, actor: str) -> None:
    """Revoke a gateway: the hub accepts nothing more from it.

    Raises:
        RefusedError: it is not enrolled.
    """
    table = tables.gateway
    here = (table.c.site == site, table.c.name == name, table.c.enrolled_ms.is_not(None))
    if not connection.execute(update(table).where(*here).values(enrolled_ms=None)).rowcount:
        raise RefusedError(f"Gateway {site}/{name} is not enrolled; `tapgate hub gateways` lists those that are.")
    audit = Audit(actor, site, now_ms())
    audit.note("gateway_revoke", name)
    audit.write(connection)


def enrolled(connection: Connection) -> list[tuple[str, str, int | None]]:
    """Return every enrolled gateway: site, id, and until when its certificate is valid (milliseconds since 1970)."""
    table = tables.gateway
    query = select(table.c.site, table.c.name, table.c.certificate_until_ms).where(table.c.enrolled_ms.is_not(None))
    return [(site, name, until) for site, name, until in connection.execute(query.order_by(table.c.site, table.c.name))]
