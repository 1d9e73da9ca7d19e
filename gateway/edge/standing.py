"""Whether this gateway may send: its birth, and the hub's welcome to it.

A journal whose card was copied or put back to an older image holds other events under numbers that the hub knows. So
each boot draws a witness, and the journal keeps those of the boots before: the hub sees from them whether history has
forked, and says so in its welcome before anything is sent. A fork or a stop counts only when the hub signed it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from tinydb.table import Document, Table

from gateway.errors import BadMessage, BadRoster, JournalFull, JournalWriteFailed
from gateway.link.messages import (
    MAX_WITNESSES,
    WATERMARK_PURPOSE,
    WELCOME_PURPOSE,
    Signed,
    Watermark,
    Welcome,
    watermark_body,
)
from gateway.roster.signing import Trust

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3.0
ASK_AGAIN_SECONDS = 10.0
STOPPED_ASK_SECONDS = 60.0
FORK_SHOWN_SECONDS = 24 * 3600.0
_DOUBT_SHOWN_SECONDS = 600.0
_DOUBT = (
    "A watermark without the hub's signature was ignored: another program writes to the broker, or a worker of the hub "
    "cannot read the key of this site. Taps are kept here and sent again."
)
WAITING, GOES_ON, STOPPED = "waiting", "goes_on", "stopped"
_DOCUMENT = 1
_SERIAL = Path("/sys/firmware/devicetree/base/serial-number")
_MACHINE_ID = Path("/etc/machine-id")


def board_name() -> str:
    """Return what names this machine for people: its host name and the end of its serial number."""
    for path in (_SERIAL, _MACHINE_ID):
        try:
            serial = path.read_text(encoding="ascii", errors="replace").strip("\0\n ")
        except OSError:
            continue
        # A machine id is not for others to see (machine-id(5)); a hash of it is.
        short = serial[-8:] if path == _SERIAL else hashlib.sha256(serial.encode()).hexdigest()[:8]
        return f"{socket.gethostname()[:40]} {short}"
    return socket.gethostname()[:50]


@dataclass(slots=True)
class Standing:
    """Lives on the relay's thread.

    Args:
        memory: the named table that keeps the witnesses over restarts.
        trust: whose word counts for a fork or a stop; None: nobody's.
        monotonic: seconds of a clock that never jumps.

    Attributes:
        may_send: no event goes before the hub's welcome, or before it is clear that this hub gives none.
        disputed: a number under which the hub seems to hold another event than this journal.
        notice: one sentence for people about a fork or a second gateway, None without one.
    """

    memory: Table
    trust: Trust | None
    site: str
    gateway: str
    monotonic: Callable[[], float]
    witness: str = field(default_factory=lambda: secrets.token_hex(16))
    challenge: str = field(default_factory=lambda: secrets.token_hex(16))
    board: str = field(default_factory=board_name)
    before: list[str] = field(default_factory=list)
    state: str = WAITING
    disputed: int | None = None
    proof: Signed | None = None
    _proven: int = 0
    _signs: bool = False
    _seals: bool = False
    _welcoming: bool | None = None
    _born_at: float = 0.0
    _connected_at: float = 0.0
    _notice: str | None = None
    _notice_until: float = 0.0
    _hub_ms: int = 0
    _hub_ms_at: float = 0.0

    def __post_init__(self) -> None:
        document = self.memory.get(doc_id=_DOCUMENT)
        if isinstance(document, Document):
            known = document.get("witnesses")
            self.before = [item for item in known if isinstance(item, str)] if isinstance(known, list) else []
            self._signs = document.get("signed") is True
            self._seals = document.get("seals") is True
            with contextlib.suppress(msgspec.ValidationError):
                self.proof = msgspec.convert(document.get("proof"), Signed)
                self._proven = msgspec.json.decode(self.proof.body, type=Welcome).roster

    def keep(self) -> None:
        """Make this boot's witness durable, before it is named to anybody.

        Raises:
            JournalFull, JournalWriteFailed: the disk refused; the hub may take the next boot for a copy.
        """
        kept = [self.witness, *self.before][:MAX_WITNESSES]
        proof = msgspec.to_builtins(self.proof) if self.proof else None
        values = {"witnesses": kept, "signed": self._signs, "seals": self._seals, "proof": proof}
        self.memory.upsert(Document(values, _DOCUMENT))

    def stay(self) -> None:
        """Go by the witness of the last start, because this start's could not be kept.

        The hub would miss it in the next start and take that for a copy of the card. Nothing was written since, so the
        history is still the one of the last start.
        """
        if self.before:
            self.witness, *self.before = self.before

    def renew(self) -> None:
        """Wait for a welcome anew: the journal turned out to be another than it seemed at the start."""
        self.state, self.disputed = WAITING, None

    @property
    def may_send(self) -> bool:
        return self.state == GOES_ON

    @property
    def may_leap(self) -> bool:
        """Tell whether a watermark may move the journal on without a signature: only if no hub here ever signed."""
        return not self._signs and self._welcoming is False

    @property
    def notice(self) -> str | None:
        return self._notice if self.monotonic() < self._notice_until else None

    def hub_ms(self) -> int | None:
        """Return the hub's time by its last signed word, milliseconds since 1970; None without one in this boot."""
        if not self._hub_ms:
            return None
        return self._hub_ms + round((self.monotonic() - self._hub_ms_at) * 1000)

    # What happens.

    def connected(self) -> None:
        """Begin a connection: whether this hub gives a welcome is open again."""
        self._connected_at = self.monotonic()
        self._welcoming = None

    def born(self) -> None:
        """Note that a birth was sent just now."""
        self._born_at = self.monotonic()

    def hub_heard(self, *, welcoming: bool) -> None:
        """Take in the hub's own state; a hub before 0.3 gives no welcome and gets what it always got."""
        self._welcoming = welcoming
        if not welcoming and self.state == WAITING and self.disputed is None:
            self._go_on()

    def wants_birth(self) -> bool:
        """Tell whether to send another birth: the welcome may be lost, and a stop may be over."""
        now = self.monotonic()
        if self.state == STOPPED:
            return now - self._born_at > STOPPED_ASK_SECONDS
        if self.state != WAITING:
            return False
        if self._welcoming is None and self.disputed is None and now - self._connected_at > PATIENCE_SECONDS:
            # The broker holds no word of any hub; whoever takes the events may be one that gives no welcome.
            self._go_on()
            return False
        return now - self._born_at > ASK_AGAIN_SECONDS

    def dispute(self, seq: int) -> bool:
        """Stop sending because the hub holds another event under a number; tell whether to ask the hub at once."""
        fresh = self.disputed != seq
        self.disputed = seq
        if self.state == GOES_ON:
            self.state = WAITING
        return fresh

    def believes(self, mark: Watermark) -> bool:
        """Return whether a watermark counts: once the hub said that it signs them, only with its signature."""
        if not self._seals or self.trust is None:
            return True
        return self._is_signed(WATERMARK_PURPOSE, Signed(watermark_body(self.site, self.gateway, mark), mark.seal))

    def doubt(self) -> bool:
        """Note a watermark that is not believed; tell whether to ask the hub, whose own answer is signed."""
        if self.notice in {None, _DOUBT}:
            self._say(_DOUBT, _DOUBT_SHOWN_SECONDS)
        return self.state == GOES_ON and self.monotonic() - self._born_at > STOPPED_ASK_SECONDS

    def answered(self, signed: Signed, epoch: str, *, is_ours: bool) -> Welcome | None:
        """Take in the hub's answer to a birth; return it when it is an order: to begin a new epoch, or to stop.

        Args:
            is_ours: whether the watermark beside it speaks of this journal's events; if not, `go_on` is not believed.

        Raises:
            BadMessage: its body is no Welcome.
        """
        try:
            welcome = msgspec.json.decode(signed.body, type=Welcome)
        except msgspec.MsgspecError as error:
            raise BadMessage(f"This is not a Welcome: {error}.") from None
        if (welcome.site, welcome.gateway, welcome.to, welcome.epoch) != (self.site, self.gateway, self.witness, epoch):
            return None
        is_signed = self._is_signed(WELCOME_PURPOSE, signed)
        if is_signed:
            self._remember(signed, welcome)
            self._hub_ms, self._hub_ms_at = welcome.at_ms, self.monotonic()
        elif welcome.verdict != "go_on":
            log.error("a %s order for this gateway is not signed by its hub and was ignored", welcome.verdict)
            return None
        if welcome.verdict == "go_on":
            if not is_ours:
                return None
            if self.state == STOPPED:
                log.warning("no other gateway uses this id any more; sending again")
                self._notice = None
            self.disputed = None
            self._go_on()
            return None
        if welcome.verdict == "twin":
            self._stop(welcome)
        return welcome

    def forked(self, after: int, old_epoch: str, count: int, epoch: str) -> None:
        """Note that the journal goes on in a new epoch; it needs a welcome of its own."""
        self.state, self.disputed = WAITING, None
        self._say(
            f"History forked at event {after} of epoch {old_epoch}: the card was copied or is an older image. {count} "
            f"events were written again into epoch {epoch}; see that no second gateway or card has this id.",
            FORK_SHOWN_SECONDS,
        )

    def _remember(self, signed: Signed, welcome: Welcome) -> None:
        if self._signs and welcome.roster <= self._proven and welcome.seals == self._seals:
            return
        self._signs, self._seals = True, welcome.seals
        if welcome.roster > self._proven:
            self.proof, self._proven = signed, welcome.roster
        try:
            self.keep()
        except (JournalFull, JournalWriteFailed) as error:
            log.warning("the hub's signed word could not be kept: %s", error)

    def _go_on(self) -> None:
        self.state = GOES_ON

    def _stop(self, welcome: Welcome) -> None:
        self.state = STOPPED
        boards = " and ".join(welcome.others) or "another board"
        self._say(
            f"Another gateway uses this id ({boards}): both are stopped, taps are kept here. Give one of them an id of "
            "its own, or switch it off.",
            float("inf"),
        )

    def _say(self, sentence: str, seconds: float) -> None:
        if sentence != self._notice:
            log.error("%s", sentence)
        self._notice, self._notice_until = sentence, self.monotonic() + seconds

    def _is_signed(self, purpose: bytes, signed: Signed) -> bool:
        if self.trust is None:
            return False
        try:
            self.trust.check_statement(purpose, signed.body, signed.seal)
        except BadRoster as error:
            log.warning("a message of the hub is not signed as it should be: %s", error)
            return False
        return True
