"""The settings of an rc522 reader, with their bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.cards.mifare_classic import FACTORY_KEY
from gateway.errors import ConfigError
from gateway.readers.rc522.place import Place


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an rc522 reader.

    Attributes:
        poll_ms: pause between looks while people tap; a tap waits half of it on average.
        idle_poll_ms: pause between looks when no card was seen for ten seconds.
        rearm_ms: how long a card must be away before it counts again.
        reset_gpio: BCM number of the chip's reset pin, pulled when a soft reset does not help; None when not wired.
        irq_gpio: BCM number of the chip's interrupt pin, which signals a DESFire's answers, so that they need not
            be polled; everything else has a known length and is waited for by time.
        antenna_group: readers of one bus with the same name here never have their fields on at the same time.
        credential: what names the card: `uid`, the number in a `classic-sector`, `ntag-page` or `desfire-file`, or with
            `desfire-uid` the true UID of cards that show a new one at every tap (GetCardUID under one key for all).
        block: of the sector, or the NTAG's page; offset and length are bytes in the 16 read from there.
        key_file: 12 hex digits for a sector, empty for the factory key; 32 for a DESFire key, empty for a free file.
        aid: application that holds file and key of a DESFire, six hex digits as the issuer writes it.
        clone_check: look for signs of a copied card after it has been served; a Classic costs the next looks 20 ms.
        system_id: hex text of the issuer's system identifier, when each DESFire card has a key of its own (AN10922).
        secure_messaging: `ev2` for DESFire EV2 and EV3 (AuthenticateEV2First), `ev1` for EV1 and for cards that are
            kept compatible with it (AuthenticateAES).
        communication: how the file's content travels under the key: `plain`, `mac` (signed), `full` (encrypted), or
            `auto`: as the file's own settings say; an issuer may keep these to the master key, then it must be set.
    """

    speed_hz: int = 4_000_000
    poll_ms: float = 0.5
    idle_poll_ms: float = 20.0
    rearm_ms: float = 60.0
    reset_gpio: int | None = field(default=None, metadata={"type": int})
    irq_gpio: int | None = field(default=None, metadata={"type": int})
    antenna_group: str = ""
    credential: str = "uid"
    sector: int = 1
    block: int = 0
    offset: int = 0
    length: int = 8
    number_form: str = "ascii"
    key_type: str = "A"
    key_file: str = ""
    aid: str = "000000"
    file: int = 0
    key_number: int = 0
    system_id: str = ""
    secure_messaging: str = "ev2"
    communication: str = "auto"
    clone_check: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "speed_hz": (100_000, 10_000_000),
            "poll_ms": (0, 100),
            "idle_poll_ms": (0, 100),
            "rearm_ms": (20, 10_000),
        }
        problems = [
            f"{key}: must be from {low} to {high}"
            for key, (low, high) in bounds.items()
            if not low <= getattr(self, key) <= high
        ]
        problems += [
            f"{key}: must be a BCM number from 0 to 27"
            for key in ("reset_gpio", "irq_gpio")
            if (pin := getattr(self, key)) is not None and not 0 <= pin <= 27
        ]
        if self.antenna_group and self.credential == "desfire-uid":
            problems.append(
                "antenna_group: cards of `desfire-uid` show a new number whenever their field returns, which it does "
                "many times a second in a group; move the antennas more than 10 cm apart instead"
            )
        try:
            problems += self.place(FACTORY_KEY if self.key_file else b"").problems()
        except ValueError:
            problems.append("aid: aid and system_id must be hex digits")
        if problems:
            raise ConfigError(problems)

    def place(self, key: bytes) -> Place:
        """Return where the card's number stands."""
        return Place(
            self.credential,
            self.sector,
            self.block,
            self.offset,
            self.length,
            self.number_form,
            self.key_type,
            key,
            int(self.aid, 16),
            self.file,
            self.key_number,
            bytes.fromhex(self.system_id) if self.system_id else None,
            self.secure_messaging,
            self.communication,
        )
