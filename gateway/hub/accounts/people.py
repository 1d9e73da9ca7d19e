"""Accounts and what each may do: created by invitation, granted by those who may, ended for good or opened again."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from gateway.access.people import fold_group
from gateway.errors import RefusedError
from gateway.hub.scope import EVERYWHERE, SWITCHES, TWO_STEP_ROLES, Grant, Reach, Role, Scope, matrix, scope_of
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit

_ADDRESS = re.compile(r"[^@\s\"<>,;:\\]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_MOST_CHARS = 254
NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in."""

    id: int
    email: str
    name: str
    state: str

    @property
    def actor(self) -> str:
        """Return how the audit names this account."""
        return f"account:{self.email}"


@dataclass(frozen=True, slots=True)
class Vouched(Account):
    """An account as an issuer vouches for it; `proved_ms` when the person proved it there, 0 when nobody can tell."""

    proved_ms: int


@dataclass(frozen=True, slots=True)
class GrantView:
    """A grant as pages show it; `site` is EVERYWHERE for all of them."""

    id: int
    account: int
    site: str
    role: Role
    switches: tuple[str, ...]
    groups: tuple[str, ...]
    by: str
    until_ms: int | None


def split_groups(text: str) -> tuple[str, ...]:
    """Return the names of groups that somebody wrote with commas between them."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def norm_email(email: str) -> str:
    """Return what two spellings of one address have in common.

    Raises:
        RefusedError: it is not an address.
    """
    text = email.strip()
    if len(text) > _MOST_CHARS or not _ADDRESS.fullmatch(text):
        raise RefusedError("This is not a mail address; write one such as a.khan@school.example.")
    return text.casefold()


def has_accounts(connection: Connection) -> bool:
    """Return whether anybody has an account, ended ones included."""
    return connection.scalar(select(tables.account.c.id).limit(1)) is not None


def find_account(connection: Connection, *, email: str | None = None, id: int | None = None) -> Account | None:  # noqa: A002  # the column's name
    """Find an account by its id or its address, however that is spelt."""
    table = tables.account
    query = select(table.c.id, table.c.email, table.c.name, table.c.state)
    query = query.where(table.c.id == id if email is None else table.c.email_norm == email.strip().casefold())
    row = connection.execute(query).one_or_none()
    return None if row is None else Account(*row)


def create_account(connection: Connection, email: str, name: str, audit: Audit) -> Account:
    """Create an account that nobody can sign in to yet; one that has ended is opened again.

    Raises:
        RefusedError: the address is none, or somebody has it.
    """
    table = tables.account
    norm = norm_email(email)
    found = find_account(connection, email=norm)
    if found is not None and found.state != "ended":
        raise RefusedError("There is an account with this address already; give it another role instead.")
    row = {"email": email.strip(), "name": name.strip()[:NAME_CHARS], "state": "invited"}
    if found is None:
        values = {**row, "email_norm": norm, "created_ms": audit.at_ms, "created_by": audit.actor}
        number = connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()
    else:
        number = found.id
        connection.execute(update(table).where(table.c.id == number).values(row))
    audit.note("account_created", f"account:{number}", email=row["email"])
    return Account(number, row["email"], row["name"], "invited")


def activate(connection: Connection, account: int) -> None:
    """Let an invited account in."""
    table = tables.account
    connection.execute(update(table).where(table.c.id == account, table.c.state == "invited").values(state="active"))


def end_account(connection: Connection, account: int, audit: Audit) -> None:
    """End an account: its sessions end at once, its ways to sign in and its grants are deleted.

    Raises:
        RefusedError: nobody would be left who can administer every site.
    """
    _keep_an_administrator(connection, account, None)
    connection.execute(update(tables.account).where(tables.account.c.id == account).values(state="ended"))
    for table in (tables.web_session, tables.one_time_token, tables.sign_in_way, tables.account_grant):
        connection.execute(delete(table).where(table.c.account == account))
    audit.note("account_ended", f"account:{account}")


def add_grant(connection: Connection, account: int, grant: Grant, audit: Audit, *, until_ms: int | None = None) -> None:
    """Grant an account a role at a site, or at all; the same one again changes its switches, groups and end only.

    Raises:
        RefusedError: there is no such site, switch or group.
    """
    table = tables.account_grant
    site = None if grant.site == EVERYWHERE else grant.site
    if site is not None and connection.scalar(select(tables.site.c.id).where(tables.site.c.id == site)) is None:
        raise RefusedError(f"There is no site {site!r}; choose one of hub.toml.")
    if unknown := sorted(set(grant.switches) - SWITCHES.keys()):
        raise RefusedError(f"{unknown[0]!r} cannot be switched; known are {', '.join(SWITCHES)}.")
    _check_groups(connection, grant)
    same = (table.c.account == account, table.c.site.is_not_distinct_from(site), table.c.role == grant.role)
    connection.execute(delete(table).where(*same))
    values: dict[str, Any] = {"account": account, "site": site, "role": grant.role, "until_ms": until_ms}
    values |= {"switches": sorted(set(grant.switches)), "groups": sorted(set(grant.groups))}
    connection.execute(insert(table).values(**values, by=audit.actor, at_ms=audit.at_ms))
    detail = {"switches": values["switches"]} | ({"groups": values["groups"]} if grant.groups else {})
    audit.note("role_granted", f"account:{account}", role=grant.role, site=grant.site, **detail)


def _check_groups(connection: Connection, grant: Grant) -> None:
    if not grant.groups:
        return
    if Reach.OWN not in matrix(grant.role, grant.switches).values():
        narrow = ", ".join(role for role in Role if Reach.OWN in matrix(role).values())
        raise RefusedError(f"Groups narrow the roles {narrow} only; {grant.role} sees the whole school.")
    table = tables.grouping
    query = select(table.c.code)
    if grant.site != EVERYWHERE:
        query = query.where(table.c.site == grant.site)
    known = set(connection.scalars(query))
    if unknown := sorted(name for name in grant.groups if fold_group(name) not in known):
        raise RefusedError(f"There is no group {unknown[0]!r} here; the page People and cards lists them.")


def remove_grant(connection: Connection, grant: int, audit: Audit) -> None:
    """Take a role away; it holds from the next request on.

    Raises:
        RefusedError: nobody would be left who can administer every site.
    """
    table = tables.account_grant
    row = connection.execute(select(table).where(table.c.id == grant)).one_or_none()
    if row is None:
        return
    _keep_an_administrator(connection, row.account, grant)
    connection.execute(delete(table).where(table.c.id == grant))
    audit.note("role_taken", f"account:{row.account}", role=row.role, site=row.site or EVERYWHERE)


def _keep_an_administrator(connection: Connection, account: int, grant: int | None) -> None:
    table, of = tables.account_grant, tables.account
    query = select(table.c.id, table.c.account).join_from(table, of)
    query = query.where(table.c.role == Role.ORG_ADMIN, table.c.site.is_(None), of.c.state != "ended")
    rows = connection.execute(query).all()
    leaving = {row.id for row in rows if (row.account == account if grant is None else row.id == grant)}
    if leaving and leaving == {row.id for row in rows}:
        raise RefusedError("This is the last administrator of the hub; make somebody else one first.")


def list_accounts(connection: Connection) -> list[Account]:
    """Return every account that has not ended, by address."""
    table = tables.account
    query = select(table.c.id, table.c.email, table.c.name, table.c.state).where(table.c.state != "ended")
    return [Account(*row) for row in connection.execute(query.order_by(table.c.email_norm))]


def list_grants(connection: Connection, at_ms: int, accounts: Collection[int] | None = None) -> list[GrantView]:
    """Return the grants in force, by account and site; roles that this release does not know are left out."""
    table = tables.account_grant
    query = select(table).where(or_(table.c.until_ms.is_(None), table.c.until_ms > at_ms))
    if accounts is not None:
        query = query.where(table.c.account.in_(accounts))
    known = set(Role)
    return [
        GrantView(
            row.id,
            row.account,
            row.site or EVERYWHERE,
            Role(row.role),
            tuple(row.switches),
            tuple(row.groups),
            row.by,
            row.until_ms,
        )
        for row in connection.execute(query.order_by(table.c.account, table.c.site, table.c.role))
        if row.role in known
    ]


def scope_of_account(connection: Connection, account: Account, at_ms: int) -> Scope:
    """Return what an account may see and do now."""
    views = list_grants(connection, at_ms, [account.id])
    return scope_of(
        account.actor, (Grant(item.site, item.role, item.switches, item.groups) for item in views), account.id
    )


def needs_two_steps(connection: Connection, account: int, at_ms: int) -> bool:
    """Return whether one of the account's roles must sign in in two steps."""
    return any(item.role in TWO_STEP_ROLES for item in list_grants(connection, at_ms, [account]))


def add_domain(connection: Connection, site: str, domain: str, audit: Audit) -> None:
    """Note that addresses of a domain belong to a school's staff.

    Raises:
        RefusedError: it is not a domain.
    """
    name = domain.strip().lower().removeprefix("@")
    if not _DOMAIN.fullmatch(name):
        raise RefusedError("This is not a domain; write one such as school.example.")
    if name not in list_domains(connection).get(site, []):
        connection.execute(insert(tables.email_domain).values(site=site, domain=name))
        audit.note("domain_added", f"site:{site}", domain=name)


def remove_domain(connection: Connection, site: str, domain: str, audit: Audit) -> None:
    table = tables.email_domain
    connection.execute(delete(table).where(table.c.site == site, table.c.domain == domain))
    audit.note("domain_removed", f"site:{site}", domain=domain)


def list_domains(connection: Connection) -> dict[str, list[str]]:
    """Return the staff domains of each site."""
    domains: dict[str, list[str]] = {}
    table = tables.email_domain
    for row in connection.execute(select(table).order_by(table.c.site, table.c.domain)):
        domains.setdefault(row.site, []).append(row.domain)
    return domains


def sites_of_domain(connection: Connection, email: str) -> list[str]:
    """Return the sites whose staff have addresses like this one."""
    domain = email.rpartition("@")[2].lower()
    table = tables.email_domain
    return list(connection.scalars(select(table.c.site).where(table.c.domain == domain).order_by(table.c.site)))
