"""Where a card's number is stored in its memory, from the settings of a reader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.cards.desfire import Mode
from gateway.cards.desfire_session import AUTHENTICATIONS
from gateway.cards.mifare_classic import BLOCK_BYTES, KEY_BYTES, NUMBER_FORMS
from gateway.errors import ConfigError

DESFIRE_CREDENTIALS = frozenset({"desfire-file", "desfire-uid"})
CREDENTIALS = ("uid", "classic-sector", "ntag-page", "desfire-file", "desfire-uid")
COMMUNICATIONS = {"auto": None, "plain": Mode.PLAIN, "mac": Mode.MAC, "full": Mode.FULL}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the number stands.

    Attributes:
        block: of the sector, or the page of an NTAG.
        key: six bytes for a sector, 16 or none for a file, none for an NTAG.
        system: system identifier of AN10922 when each card has a key of its own, None when all share one.
        messaging: a key of AUTHENTICATIONS.
        communication: a key of COMMUNICATIONS; `auto` asks the card for the file's own setting.
    """

    credential: str
    sector: int
    block: int
    offset: int
    length: int
    form: str
    key_type: str
    key: bytes
    aid: int = 0
    file: int = 0
    key_number: int = 0
    system: bytes | None = None
    messaging: str = "ev2"
    communication: str = "auto"

    def problems(self) -> list[str]:
        found = []
        if self.credential not in CREDENTIALS:
            found.append(f"credential: must be one of {', '.join(CREDENTIALS)}")
        if self.form not in NUMBER_FORMS:
            found.append(f"number_form: must be one of {', '.join(NUMBER_FORMS)}")
        if self.key_type not in {"A", "B"}:
            found.append("key_type: must be A or B")
        if not 0 <= self.sector <= 39:
            found.append("sector: must be from 0 to 39")
        if not 0 <= self.block <= 255:
            found.append("block: must be from 0 to 255")
        if not 0 <= self.file <= 31 or not 0 <= self.key_number <= 13:
            found.append("file: file must be from 0 to 31, key_number from 0 to 13")
        if not 0 <= self.aid <= 0xFFFFFF:
            found.append("aid: must be six hex digits")
        if self.offset < 0 or not 0 < self.length <= BLOCK_BYTES - self.offset:
            found.append("length: offset and length must stay within 16 bytes")
        return found + self._desfire_problems()

    def _desfire_problems(self) -> list[str]:
        found = []
        if self.messaging not in AUTHENTICATIONS:
            found.append(f"secure_messaging: must be one of {', '.join(AUTHENTICATIONS)}")
        if self.communication not in COMMUNICATIONS:
            found.append(f"communication: must be one of {', '.join(COMMUNICATIONS)}")
        elif self.credential == "desfire-file" and not self.key and self.communication in {"mac", "full"}:
            found.append(f"communication: {self.communication} needs a key_file; without a key a file comes plain")
        if self.credential == "desfire-uid":
            if not self.key:
                found.append("key_file: desfire-uid needs a key, without one a card does not tell its true number")
            if self.system is not None:
                found.append("system_id: desfire-uid needs one key for all cards; a card's own key needs its number")
        return found


def read_key(path: str, key_bytes: int = KEY_BYTES) -> bytes:
    """Read a key, two hex digits a byte.

    Raises:
        ConfigError: the file is missing or holds something else; the message does not repeat it.
    """
    try:
        key = bytes.fromhex(Path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != key_bytes:
        raise ConfigError([f"key_file: {path} must hold {2 * key_bytes} hex digits"])
    return key
