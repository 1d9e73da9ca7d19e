"""Whose field is on: readers of one bus whose antennas are so close that they disturb each other.

Law of this file: at most one member of a group has its field on. Its turn ends with the first look that no card
answered, and after SLICE_SECONDS whoever answers, so that a card left lying at one reader does not keep the others
dark. Members that are away are passed over; the only one present keeps the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

SLICE_SECONDS = 0.025

Member = TypeVar("Member")


class AntennaTurns(Generic[Member]):
    """The turns of one group.

    Attributes:
        holder: whose field is on; None while nobody's is.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.holder: Member | None = None
        self._members = tuple(members)
        self._last = len(self._members) - 1
        self._ends = 0.0

    def is_over(self, *, answered: bool, now: float) -> bool:
        """Tell whether the holder, who has just looked, should give the field away."""
        return not answered or now >= self._ends

    def queue(self, present: Sequence[Member]) -> list[Member]:
        """Return the members present in the order of their turns; who had the last one comes at the end."""
        size = len(self._members)
        order = [self._members[(self._last + step) % size] for step in range(1, size + 1)]
        return [member for member in order if member in present]

    def begin(self, member: Member, now: float) -> None:
        """Note that this member's field is on."""
        self.holder = member
        self._last = self._members.index(member)
        self._ends = now + SLICE_SECONDS

    def end(self) -> None:
        """Note that the holder's field is off, or that the holder is away."""
        self.holder = None
