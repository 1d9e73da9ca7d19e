"""A card's number from its memory instead of its UID: a MIFARE Classic sector, NTAG pages or a DESFire.

Law of this file: reading ends by the deadline it is given, whatever the card does, because poll must come back; no
frame is left under way. A card that fell silent is CardLost and may be read anew at once; one that needs longer than
the deadline leaves is refused, with its own timing, and not queried again while it stays there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from gateway.cards import desfire
from gateway.cards.desfire import Mode, body_of
from gateway.cards.desfire_session import AUTHENTICATIONS, Session
from gateway.cards.identity import CardNumber
from gateway.cards.iso14443 import SAK_ISO14443_4
from gateway.cards.mifare_classic import AUTH_A, AUTH_B, first_block, number_in
from gateway.cards.uid import Uid, UidKind
from gateway.errors import BadCardNumber, BadMessage, BadRecord
from gateway.protocols import iso_dep
from gateway.protocols.mfrc522 import FIFO_BYTES
from gateway.readers.rc522.chip import Rc522Chip
from gateway.readers.rc522.place import COMMUNICATIONS, DESFIRE_CREDENTIALS, Place

# Of the 100 ms that a poll may take, from its beginning.
BUDGET_MS = 90
_TRIES = 3
_ATS_BYTES = 22
_ATS_WAITING_US = 5000
# What is kept of the budget for what follows a frame: reading its answer late, DESELECT and HLTA.
_CLOSING_US = 9000
_LEAST_WAITING_US = 1000
_ONE_TRY_US = 15_000  # waking, selecting and one block of a Classic or an NTAG, none of them answered
_BYTE_US, _FRAME_US = 85, 800
_SAK_CLASSIC = 0x08
_TRUE_UID_BYTES = 7
_NOT_DISCLOSED = {b"\x9d", b"\xae"}  # an issuer may keep the settings to the master key


class CardLost(BadCardNumber):
    """The card was taken away or fell silent; read it again when it comes back."""


class Budget:
    """What is left of the time for one card."""

    def __init__(self, now_ns: Callable[[], int], deadline_ns: int) -> None:
        self._now_ns, self._deadline_ns = now_ns, deadline_ns

    @property
    def left_us(self) -> int:
        return (self._deadline_ns - self._now_ns()) // 1000


def read_number(chip: Rc522Chip, place: Place, uid: bytes, sak: int, budget: Budget) -> CardNumber:
    """Read the number of the card that is selected now; afterwards it is halted or out of the field.

    Raises:
        CardLost: it does not answer any more.
        BadCardNumber: it is another kind of card, does not know the key, holds no number there or is too slow.
    """
    is_desfire = place.credential in DESFIRE_CREDENTIALS
    kind = "classic-sector" if sak & _SAK_CLASSIC else "desfire" if sak & SAK_ISO14443_4 else "ntag-page"
    if kind != ("desfire" if is_desfire else place.credential):
        raise BadCardNumber("The card is of another kind than this reader's credential setting requires.")
    for _ in range(_TRIES):
        talk = _Desfire(chip, place, uid, budget) if is_desfire else None
        number = talk.read() if talk else _read_block(chip, place, uid)
        if number is not None:
            return number
        if talk and talk.too_slow:
            raise BadCardNumber(talk.too_slow)
        # A refused key or a lost frame throws the card out of its session, so it is woken and selected again.
        if budget.left_us < _ONE_TRY_US + _CLOSING_US or chip.wake_up() is None or not chip.select_known(uid):
            raise CardLost("The card was taken away before its number was read; hold it until the reader answers.")
    raise BadCardNumber(
        "The card's number cannot be read: wrong key or sector, or the card is at the edge of the field."
    )


def _read_block(chip: Rc522Chip, place: Place, uid: bytes) -> CardNumber | None:
    block = _block(chip, place, uid)
    return None if block is None else number_in(block, place.form, place.offset, place.length)


def _block(chip: Rc522Chip, place: Place, uid: bytes) -> bytes | None:
    if place.credential == "ntag-page":
        return chip.read_block(place.block)
    number = first_block(place.sector) + place.block
    kind = AUTH_A if place.key_type == "A" else AUTH_B
    try:
        if not chip.authenticate(kind, number, place.key, uid[-4:]):
            return None
        return chip.read_block(number)
    finally:
        chip.end_session()


class _Desfire:
    """One conversation with the DESFire that is selected now.

    Attributes:
        too_slow: a sentence when the budget is used up and the card is still there, else empty.
    """

    def __init__(self, chip: Rc522Chip, place: Place, uid: bytes, budget: Budget) -> None:
        self._place, self._uid = place, uid
        self._blocks = _Blocks(chip, budget)
        self.too_slow = ""

    def read(self) -> CardNumber | None:
        """Return the number, None when the card has fallen silent or breaks the protocol.

        Raises:
            BadCardNumber: the card refuses, or a check does not hold.
        """
        try:
            if not self._blocks.begin():
                return None
            return self._true_uid() if self._place.credential == "desfire-uid" else self._number()
        except BadMessage:
            return None
        except BadRecord as error:
            raise BadCardNumber(str(error)) from None
        finally:
            self.too_slow = self._blocks.end()

    def _select(self) -> None:
        body_of(self._blocks.command(desfire.select_application(self._place.aid)))

    def _number(self) -> CardNumber:
        place = self._place
        self._select()
        request = desfire.place_in_file(place.file, place.offset, place.length)
        if place.key:
            session = self._authenticate()
            mode = COMMUNICATIONS[place.communication]
            if mode is None:
                mode = self._find_mode(session)
            answer = self._blocks.command(session.command(desfire.READ_DATA, request, mode))
            content = session.answer(answer, mode, place.length)
        else:
            content = body_of(self._blocks.command(bytes([desfire.READ_DATA]) + request))
        # number_in cuts at the offset again.
        return number_in(bytes(place.offset) + content, place.form, place.offset, place.length)

    def _find_mode(self, session: Session) -> Mode:
        answer = self._blocks.command(session.command(desfire.GET_FILE_SETTINGS, bytes([self._place.file]), Mode.MAC))
        if answer[:1] in _NOT_DISCLOSED:
            # A refusal is not signed. Continuing in plain would let an attacker in between choose the number.
            raise BadRecord(
                "The card does not disclose its file's communication mode; set communication to plain, mac or full."
            )
        return desfire.FileSettings.parse(session.answer(answer, Mode.MAC)).mode_for(self._place.key_number)

    def _true_uid(self) -> CardNumber:
        self._select()
        session = self._authenticate()
        answer = self._blocks.command(session.command(desfire.GET_CARD_UID, b"", Mode.FULL))
        uid = Uid(session.answer(answer, Mode.FULL, _TRUE_UID_BYTES))
        if len(self._uid) == _TRUE_UID_BYTES and uid.raw != self._uid:
            raise BadRecord("The card shows a different number without its key than with it; it may be a copy.")
        return CardNumber.of_uid(uid)

    def _authenticate(self) -> Session:
        place = self._place
        key = place.key
        if place.system is not None:
            if Uid(self._uid).kind is UidKind.RANDOM:
                raise BadRecord("The card hides its number, so its diversified key cannot be derived; see desfire-uid.")
            key = desfire.diversify(key, self._uid, place.aid.to_bytes(3, "big"), place.system)
        steps = AUTHENTICATIONS[place.messaging](key, secrets.token_bytes(desfire.KEY_BYTES))
        challenge = body_of(self._blocks.command(steps.start(place.key_number)), desfire.MORE)
        return steps.finish(body_of(self._blocks.command(desfire.continue_with(steps.answer(challenge)))))


class _Blocks:
    """ISO/IEC 14443-4 commands to the card that is selected now, within the budget."""

    def __init__(self, chip: Rc522Chip, budget: Budget) -> None:
        self._chip, self._budget = chip, budget
        self._ats = iso_dep.Ats(0, 0)
        self._block_number = 0
        self._wishes = 0
        self._answered = self._out_of_time = False

    def begin(self) -> bool:
        """Ask for ISO 14443-4; False when the card stays silent.

        Raises:
            BadMessage: its answer is cut short.
        """
        raw = self._chip.exchange_frame(iso_dep.RATS, _ATS_BYTES, _ATS_WAITING_US)
        if raw is None:
            return False
        self._ats = iso_dep.parse_ats(raw)
        return True

    def command(self, command: bytes) -> bytes:
        """Return the answer to a command.

        Raises:
            BadMessage: the card has fallen silent, breaks the protocol or needs more time than there is.
        """
        exchange = iso_dep.Exchange(command, self._ats, self._block_number)
        while exchange.response is None:
            frame = exchange.frame
            left_us = self._budget.left_us - len(frame) * _BYTE_US - _FRAME_US - _CLOSING_US
            if left_us < _LEAST_WAITING_US:
                self._out_of_time = True
                raise BadMessage("The card has not answered in the time of a tap.")
            exchange.feed(self._chip.exchange_frame(frame, FIFO_BYTES, min(exchange.waiting_us, left_us)))
            self._answered = not exchange.repeats
            self._wishes += exchange.extended
        self._block_number = exchange.block_number
        return exchange.response

    def end(self) -> str:
        """Send the card to HALT: in its protocol it would not hear WUPA; returns why it was too slow, if it was."""
        try:
            heard = self._chip.exchange_frame(iso_dep.DESELECT, 3, _ATS_WAITING_US) is not None
        finally:
            self._chip.end_session()
        # A card that asked for time just now, or that still hears, is there; silence is one that was taken away.
        if not self._out_of_time or not (heard or self._answered):
            return ""
        own_ms = self._ats.waiting_us / 1000
        wishes = f", and asked {self._wishes} times for more" if self._wishes else ""
        return (
            f"The card is too slow for a tap: it lets itself {own_ms:.0f} ms for an answer{wishes}; "
            f"after {BUDGET_MS} ms it had not given its number; such cards need credential = uid."
        )
