"""What somebody may see and do: rights, roles, and the scope that every query and verb of the pages takes.

One table says what each role may do (the school side's permission matrix). A scope is made of the grants of an account
or of a token, for some sites or for all of them; whatever it does not name is refused, and rows of other sites do not
exist for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, false, or_, select, true

from gateway.access.people import fold_group
from gateway.hub.store import tables

EVERYWHERE = "*"


class Right(StrEnum):
    """Something that may be seen or done."""

    LOGBOOK = "logbook"
    PEOPLE = "people"
    CONTACTS = "contacts"
    MEDICAL = "medical"
    CARDS = "cards"
    TEACH = "teach"
    SEE_MARKS = "see-marks"
    SEND_MARKS = "send-marks"
    EMERGENCY = "emergency"
    SEE_SOURCES = "see-sources"
    TEST_SOURCES = "test-sources"
    APPROVE = "approve"
    SOURCES = "sources"
    OVERRIDES = "overrides"
    SEE_MONEY = "see-money"
    MONEY = "money"
    MESSAGES = "messages"
    SEE_GATEWAYS = "see-gateways"
    GATEWAYS = "gateways"
    GRANT = "grant"
    AUDIT = "audit"
    EXPORT = "export"
    UPLOAD = "upload"


class Role(StrEnum):
    """What an account is at a site."""

    ORG_ADMIN = "org-admin"
    SUPER_USER = "super-user"
    OFFICE = "office"
    ATTENDANCE = "attendance"
    FINANCE = "finance"
    STAFF = "staff"
    TECHNICIAN = "technician"
    EXTERNAL = "external"
    GUARDIAN = "guardian"
    READER = "reader"
    CATERING_MANAGER = "catering-manager"
    TILL_OPERATOR = "till-operator"
    DSL = "dsl"
    WARDEN = "warden"


class Reach(IntEnum):
    """How far a right goes at a site: OWN for own groups or children only, TAILS for cards and times without names.

    A page that shows whole sites asks for TAILS or ALL; one that asks for OWN takes its rows by `Scope.rows`.
    """

    NONE = 0
    OWN = 1
    TAILS = 2
    ALL = 3


# The columns are the roles above in their order. Y all, t tails, o own, - none; s: only with the switch of SWITCHES.
_TABLE = {
    #                    org sup off att fin sta tec ext gua rea cat til dsl war
    Right.LOGBOOK: "      Y   Y   Y   Y   o   Y   t   o   o   Y   -   -   Y   -",
    Right.PEOPLE: "       Y   Y   Y   Y   o   Y   -   o   o   Y   -   -   Y   -",
    Right.CONTACTS: "     Y   Y   Y   Y   o   Y   -   s   o   -   -   -   Y   -",
    Right.MEDICAL: "      Y   Y   s   -   -   s   -   s   o   -   -   -   Y   -",
    Right.CARDS: "        Y   Y   Y   -   -   -   -   -   -   -   -   -   -   -",
    Right.TEACH: "        Y   Y   Y   -   -   -   Y   -   -   -   -   -   -   -",
    Right.SEE_MARKS: "    Y   Y   Y   Y   -   Y   -   s   o   Y   -   -   Y   -",
    Right.SEND_MARKS: "   Y   Y   Y   Y   -   -   -   s   -   -   -   -   -   -",
    Right.EMERGENCY: "    Y   Y   Y   Y   -   Y   Y   -   -   Y   -   -   Y   Y",
    Right.SEE_SOURCES: "  Y   Y   Y   -   -   -   Y   -   -   -   -   -   -   -",
    Right.TEST_SOURCES: " Y   Y   Y   -   -   -   Y   -   -   -   -   -   -   -",
    Right.APPROVE: "      Y   Y   Y   -   -   -   -   -   -   -   -   -   -   -",
    Right.SOURCES: "      Y   Y   -   -   -   -   -   -   -   -   -   -   -   -",
    Right.OVERRIDES: "    Y   -   -   -   -   -   -   -   -   -   -   -   -   -",
    Right.SEE_MONEY: "    Y   -   Y   -   Y   -   -   -   o   -   Y   -   -   -",
    Right.MONEY: "        Y   -   -   -   Y   -   -   -   -   -   -   -   -   -",
    Right.MESSAGES: "     Y   Y   Y   -   -   Y   -   s   -   -   -   -   -   -",
    Right.SEE_GATEWAYS: " Y   Y   Y   -   -   -   Y   -   -   -   -   -   -   -",
    Right.GATEWAYS: "     Y   Y   -   -   -   -   Y   -   -   -   -   -   -   -",
    Right.GRANT: "        Y   Y   -   -   -   -   -   -   -   -   -   -   -   -",
    Right.AUDIT: "        Y   Y   -   -   -   -   -   -   -   -   -   -   Y   -",
    Right.EXPORT: "       Y   -   -   -   -   -   -   -   -   -   -   -   -   -",
    # Nobody's: only the agent at a school sends what it reads.
    Right.UPLOAD: "       -   -   -   -   -   -   -   -   -   -   -   -   -   -",
}
_REACHES = {"Y": Reach.ALL, "o": Reach.OWN, "t": Reach.TAILS, "-": Reach.NONE, "s": Reach.NONE}
# What an administrator may switch on for one account, and the right that it switches; for external staff within their
# own groups.
SWITCHES: Mapping[str, Right] = {
    "attendance": Right.SEND_MARKS,
    "guardian-info": Right.CONTACTS,
    "medical": Right.MEDICAL,
    "communications": Right.MESSAGES,
    "events": Right.MESSAGES,
}
# Who may make whom what: an administrator of a school hands out what its office works with, nobody their own level.
GRANTABLE: Mapping[Role, frozenset[Role]] = {
    Role.ORG_ADMIN: frozenset(Role),
    Role.SUPER_USER: frozenset(Role) - {Role.ORG_ADMIN, Role.SUPER_USER},
}
# These must sign in in two steps, or by an issuer that sees to it.
TWO_STEP_ROLES = frozenset({Role.ORG_ADMIN, Role.SUPER_USER, Role.FINANCE})
# What a token for a program may be given, and the rights that it opens.
TOKEN_SCOPES: Mapping[str, tuple[Right, ...]] = {
    "logbook:read": (Right.LOGBOOK,),
    "people:read": (Right.PEOPLE,),
    "cards:write": (Right.PEOPLE, Right.CARDS),
    "gateways:read": (Right.SEE_GATEWAYS,),
    "gateways:write": (Right.SEE_GATEWAYS, Right.GATEWAYS),
    "mis:read": (Right.SEE_SOURCES,),
    "mis:write": (Right.SEE_SOURCES, Right.TEST_SOURCES, Right.APPROVE, Right.SOURCES),
    "accounts:read": (Right.GRANT,),
    "audit:read": (Right.AUDIT,),
    "agent:write": (Right.UPLOAD,),
}


def matrix(role: Role, switches: Collection[str] = ()) -> dict[Right, Reach]:
    """Return how far each right of a role goes."""
    column = list(Role).index(role)
    reaches = {}
    for right, row in _TABLE.items():
        letter = row.split()[column]
        reach = _REACHES[letter]
        if letter == "s" and any(SWITCHES[name] is right for name in switches if name in SWITCHES):
            reach = Reach.OWN if role is Role.EXTERNAL else Reach.ALL
        reaches[right] = reach
    # Whoever may send marks sees them.
    reaches[Right.SEE_MARKS] = max(reaches[Right.SEE_MARKS], reaches[Right.SEND_MARKS])
    return reaches


@dataclass(frozen=True, slots=True)
class Sites:
    """The sites that a scope reaches: those named, or all."""

    names: frozenset[str] = frozenset()
    everywhere: bool = False

    def __contains__(self, site: object) -> bool:
        return self.everywhere or site in self.names

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.names)

    def hold(self, column: Column[str]) -> ColumnElement[bool]:
        """Return the condition that a row is of one of these sites."""
        if self.everywhere:
            return true()
        return column.in_(sorted(self.names)) if self.names else false()


ALL_SITES = Sites(everywhere=True)


@dataclass(frozen=True, slots=True)
class Scope:
    """What one actor may see and do.

    Attributes:
        actor: as the audit names them.
        reaches: for each site, or EVERYWHERE, how far each right goes.
        account: None for a token, a command line and the pages of a trial.
        roles: the roles behind it.
        groups: for each site, or EVERYWHERE, the folded names of the groups whose people OWN reaches.
    """

    actor: str
    reaches: Mapping[str, Mapping[Right, Reach]]
    account: int | None = None
    roles: frozenset[tuple[str, Role]] = frozenset()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def reach(self, right: Right, site: str) -> Reach:
        """Return how far a right goes at a site; with an empty one, in what concerns no site."""
        names = (EVERYWHERE, site) if site else (EVERYWHERE,)
        return max((self.reaches.get(name, {}).get(right, Reach.NONE) for name in names), default=Reach.NONE)

    def may(self, right: Right, least: Reach = Reach.ALL) -> bool:
        """Return whether a right goes that far at one site at least."""
        return any(reaches.get(right, Reach.NONE) >= least for reaches in self.reaches.values())

    def sites(self, right: Right, least: Reach = Reach.ALL) -> Sites:
        """Return the sites at which a right goes that far."""
        if self.reaches.get(EVERYWHERE, {}).get(right, Reach.NONE) >= least:
            return ALL_SITES
        names = (name for name, reaches in self.reaches.items() if reaches.get(right, Reach.NONE) >= least)
        return Sites(frozenset(names))

    def rows(
        self, right: Right, site: Column[Any], person: Column[Any], least: Reach = Reach.ALL
    ) -> ColumnElement[bool]:
        """Return the condition that a row is of a site where the right goes that far, or of a person in own groups."""
        mine = [self.sites(right, least).hold(site)]
        for name, codes in self.groups.items():
            if codes and self.reaches.get(name, {}).get(right, Reach.NONE) >= Reach.OWN:
                here = true() if name == EVERYWHERE else site == name
                mine.append(here & person.in_(_members(codes)))
        return or_(*mine)

    def grantable(self, site: str) -> frozenset[Role]:
        """Return the roles that the actor may give to others at a site; with EVERYWHERE, at all of them."""
        mine = {role for name, role in self.roles if name in {EVERYWHERE, site}}
        return frozenset().union(*(GRANTABLE.get(role, frozenset()) for role in mine))


@dataclass(frozen=True, slots=True)
class Grant:
    """A role at a site; EVERYWHERE for all.

    Attributes:
        groups: names of the groups whose people somebody sees who reaches own groups only.
    """

    site: str
    role: Role
    switches: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def scope_of(actor: str, grants: Iterable[Grant], account: int | None = None) -> Scope:
    """Make the scope of an account: at each site the furthest of what its grants there allow."""
    reaches: dict[str, dict[Right, Reach]] = {}
    roles = set()
    groups: dict[str, frozenset[str]] = {}
    for grant in grants:
        at_site = reaches.setdefault(grant.site, {})
        for right, reach in matrix(grant.role, grant.switches).items():
            at_site[right] = max(at_site.get(right, Reach.NONE), reach)
        roles.add((grant.site, grant.role))
        codes = frozenset(map(fold_group, grant.groups))
        groups[grant.site] = groups.get(grant.site, frozenset()) | codes
    return Scope(actor, reaches, account, frozenset(roles), groups)


def _members(codes: Collection[str]) -> Select[tuple[str]]:
    member, group = tables.membership, tables.grouping
    query = select(member.c.person).join_from(member, group)
    return query.where(member.c.until_ms.is_(None), group.c.code.in_(sorted(codes)))


def token_scope(actor: str, scopes: Collection[str], site: str | None) -> Scope:
    """Make the scope of a token; words that this release does not know open nothing."""
    rights = {right: Reach.ALL for word in scopes for right in TOKEN_SCOPES.get(word, ())}
    return Scope(actor, {site or EVERYWHERE: rights})


def everything(actor: str) -> Scope:
    """Make the scope of somebody who may do everything: a trial's pages, root's command line."""
    return scope_of(actor, [Grant(EVERYWHERE, Role.ORG_ADMIN)])
