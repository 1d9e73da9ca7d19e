"""The kiosks' actions in the JSON part of a roster file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from gateway.access.people import KioskAction

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class PackedAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """A KioskAction; what another machine wrote is bounded here, where it is read."""

    id: _Text
    name: _Text
    kind: Annotated[str, msgspec.Meta(pattern="^(sign|check)$")]
    direction: Annotated[str, msgspec.Meta(pattern="^(in|out)$")]
    points: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def pack_actions(actions: Iterable[KioskAction]) -> list[PackedAction]:
    """Return actions as a roster file holds them."""
    return [
        PackedAction(item.id, item.name, item.kind, item.direction, item.points, tuple(sorted(item.groups)))
        for item in actions
    ]


def unpack_actions(packed: Iterable[PackedAction]) -> tuple[KioskAction, ...]:
    """Return what kiosks offer after a tap."""
    return tuple(
        KioskAction(item.id, item.name, item.kind, item.direction, item.points, frozenset(item.groups))
        for item in packed
    )
