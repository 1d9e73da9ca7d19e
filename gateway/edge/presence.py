"""Who has signed in today at any kiosk of the site, as the hub says it, for the kiosks of this gateway.

The hub's list covers this gateway's own movements up to a number; what was recorded here after that counts on top. At
midnight everybody is out: whoever forgot to sign out yesterday signs in again today.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from gateway.access.event import Event, decode_event
from gateway.edge.tapline import Seat
from gateway.errors import BadMessage
from gateway.link import messages
from gateway.link.client import Arrived
from gateway.link.messages import PRESENCE_PURPOSE, Present, SealedPresence
from gateway.points.kiosk import Kiosk
from gateway.roster.signing import Trust

_MOST_OWN = 20_000


class SitePresence:
    """Keeps the kiosks in line; `take` runs on the relay's thread, `tick` on the housekeeper's.

    Args:
        after: returns recorded events after a number, at most so many.
        epoch: returns the journal's.
        today: returns the local day, None while the clock is not set.
    """

    def __init__(
        self,
        seats: Mapping[str, Seat],
        trust: Callable[[], Trust | None],
        site: str,
        gateway: str,
        after: Callable[[int, int], list[tuple[int, bytes]]],
        epoch: Callable[[], str],
        today: Callable[[], date | None],
    ) -> None:
        self._kiosks = {name: seat for name, seat in seats.items() if isinstance(seat.point, Kiosk)}
        self._trust, self._site, self._gateway = trust, site, gateway
        self._after, self._epoch, self._today = after, epoch, today
        self._day: date | None = None

    @property
    def is_needed(self) -> bool:
        """Return whether this gateway has a kiosk."""
        return bool(self._kiosks)

    def take(self, message: Arrived) -> None:
        """Take in the hub's list.

        Raises:
            BadMessage, BadRoster: it is none, or not signed for this site.
        """
        if not message.payload:
            return
        sealed, trust = messages.decode(message.payload, SealedPresence), self._trust()
        if trust is None:
            return
        trust.check_statement(PRESENCE_PURPOSE, sealed.body, sealed.seal)
        try:
            present = msgspec.json.decode(sealed.body, type=Present)
        except msgspec.MsgspecError as error:
            raise BadMessage(f"This is not a list of who is in: {error}.") from None
        today = self._today()
        if present.site != self._site or (today is not None and present.day != today.isoformat()):
            # Retained from another day; the hub's next one comes.
            return
        upto = present.covered.get(self._gateway, {}).get(self._epoch(), 0)
        own = [(person, movement) for _, person, movement in movements_in(self._after(upto, _MOST_OWN))]
        self._begin_from(present.people, own)

    def tick(self) -> None:
        """Sign everybody out when a new day begins."""
        today = self._today()
        if today is None or today == self._day:
            return
        is_new_day, self._day = self._day is not None, today
        if is_new_day:
            self._begin_from((), ())

    def _begin_from(self, people: Collection[str], own: Collection[tuple[str, Mapping[str, object]]]) -> None:
        for seat in self._kiosks.values():
            with seat.lock:
                assert isinstance(seat.point, Kiosk)
                seat.point.signed_in = set(people)
                for person, movement in own:
                    seat.point.restore(person, movement)


def movements_in(recorded: Iterable[tuple[int, bytes]]) -> Iterator[tuple[Event, str, dict[str, Any]]]:
    """Yield the movements among recorded events, in their order: the event, its person and its content."""
    for _seq, raw in recorded:
        event = decode_event(raw)
        if event.kind == "movement" and isinstance(event.movement, dict) and isinstance(event.person, str):
            yield event, event.person, event.movement
