"""The permission matrix, cell by cell, and what a scope made of it reaches."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.hub.scope import (
    ALL_SITES,
    EVERYWHERE,
    SWITCHES,
    TOKEN_SCOPES,
    Grant,
    Reach,
    Right,
    Role,
    Scope,
    everything,
    matrix,
    scope_of,
    token_scope,
)
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from tests.hub.samples import SITE, add_site

# As the school side's blueprint writes it; `o` and `t` as there, a switch that is off is none.
BLUEPRINT = {
    Right.LOGBOOK: "Y Y Y Y o Y t o o Y",
    Right.CONTACTS: "Y Y Y Y o Y - - o -",
    Right.MEDICAL: "Y Y - - - - - - o -",
    Right.CARDS: "Y Y Y - - - - - - -",
    Right.SEND_MARKS: "Y Y Y Y - - - - - -",
    Right.EMERGENCY: "Y Y Y Y - Y Y - - Y",
    Right.APPROVE: "Y Y Y - - - - - - -",
    Right.SOURCES: "Y Y - - - - - - - -",
    Right.OVERRIDES: "Y - - - - - - - - -",
    Right.MONEY: "Y - - - Y - - - - -",
    Right.MESSAGES: "Y Y Y - - Y - - - -",
    Right.GRANT: "Y Y - - - - - - - -",
    Right.EXPORT: "Y - - - - - - - - -",
}
LETTERS = {"Y": Reach.ALL, "o": Reach.OWN, "t": Reach.TAILS, "-": Reach.NONE}


@pytest.mark.parametrize("right", BLUEPRINT, ids=str)
def test_each_role_has_what_the_blueprint_gives_it(right: Right) -> None:
    roles = list(Role)[: len(BLUEPRINT[right].split())]
    found = {role: matrix(role)[right] for role in roles}
    assert found == {role: LETTERS[letter] for role, letter in zip(roles, BLUEPRINT[right].split(), strict=True)}


def test_every_right_and_role_has_a_cell() -> None:
    for role in Role:
        assert set(matrix(role)) == set(Right)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_opens_its_right_to_external_staff_within_their_groups_and_to_nobody_who_lacks_it(switch: str) -> None:
    right = SWITCHES[switch]
    assert matrix(Role.EXTERNAL, [switch])[right] is Reach.OWN
    assert matrix(Role.EXTERNAL)[right] is Reach.NONE
    assert matrix(Role.READER, [switch])[right] is Reach.NONE


def test_a_technician_and_a_warden_see_no_names() -> None:
    for role in (Role.TECHNICIAN, Role.WARDEN, Role.TILL_OPERATOR):
        scope = scope_of("account:x", [Grant(SITE, role)])
        assert not scope.may(Right.PEOPLE, Reach.OWN)
        assert not scope.may(Right.LOGBOOK)


def test_a_right_at_one_site_is_none_at_another_and_several_grants_add_up() -> None:
    scope = scope_of("account:x", [Grant("a", Role.OFFICE), Grant("b", Role.TECHNICIAN), Grant("b", Role.READER)])
    assert scope.reach(Right.CARDS, "a") is Reach.ALL
    assert scope.reach(Right.CARDS, "b") is Reach.NONE
    assert scope.reach(Right.LOGBOOK, "b") is Reach.ALL
    assert scope.reach(Right.LOGBOOK, "c") is Reach.NONE
    assert scope.reach(Right.LOGBOOK, "") is Reach.NONE
    assert scope.sites(Right.CARDS).names == {"a"}
    assert scope.sites(Right.LOGBOOK, Reach.TAILS).names == {"a", "b"}
    assert not scope.sites(Right.OVERRIDES)


def test_a_grant_everywhere_reaches_every_site_and_what_concerns_none() -> None:
    scope = scope_of("account:x", [Grant(EVERYWHERE, Role.ORG_ADMIN)])
    assert scope.sites(Right.OVERRIDES) == ALL_SITES
    assert "any" in scope.sites(Right.OVERRIDES)
    assert scope.reach(Right.AUDIT, "") is Reach.ALL
    assert everything("person:root").reaches == scope.reaches


def test_nobody_grants_their_own_level_but_the_organisation() -> None:
    def grantable(role: Role, at: str = SITE) -> frozenset[Role]:
        return scope_of("account:x", [Grant(SITE, role)]).grantable(at)

    assert Role.ORG_ADMIN in grantable(Role.ORG_ADMIN)
    assert {Role.OFFICE, Role.ATTENDANCE, Role.FINANCE} <= grantable(Role.SUPER_USER)
    assert not {Role.SUPER_USER, Role.ORG_ADMIN} & grantable(Role.SUPER_USER)
    assert grantable(Role.OFFICE) == frozenset()
    assert grantable(Role.ORG_ADMIN, "elsewhere") == frozenset()
    assert grantable(Role.ORG_ADMIN, EVERYWHERE) == frozenset()


def test_a_token_reaches_what_its_scopes_name_at_its_site_only() -> None:
    scope = token_scope("token:till", ["people:read", "of-a-later-release:read"], SITE)
    assert scope.reach(Right.PEOPLE, SITE) is Reach.ALL
    assert scope.reach(Right.PEOPLE, "other") is Reach.NONE
    assert not scope.may(Right.CARDS)
    assert scope.grantable(SITE) == frozenset()
    for word in TOKEN_SCOPES:
        assert token_scope("token:x", [word], None).reaches[EVERYWHERE], word


def test_the_condition_of_a_scope_selects_its_sites_rows_only(store: Store, tmp_path: Path) -> None:
    add_site(store, tmp_path, "other")

    def rows(scope: Scope) -> set[str]:
        with store.read() as connection:
            query = select(tables.site.c.id).where(scope.sites(Right.PEOPLE).hold(tables.site.c.id))
            return set(connection.scalars(query))

    assert rows(everything("x")) == {SITE, "other"}
    assert rows(scope_of("x", [Grant("other", Role.OFFICE)])) == {"other"}
    assert rows(scope_of("x", [Grant("other", Role.TECHNICIAN)])) == set()
