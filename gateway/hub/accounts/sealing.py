"""Seals what the database must keep and somebody who reads a copy of it must not learn: the secrets of second steps."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from gateway.errors import FatalError, RefusedError

KEY_FILE = "accounts.key"


class Seal:
    """Seals and opens short texts with a key of its own file, made when it is first needed."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / KEY_FILE

    def seal(self, text: str) -> str:
        return self._fernet(make=True).encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """Open what `seal` returned.

        Raises:
            RefusedError: the key is another one, as after a restore without it.
        """
        try:
            return self._fernet(make=False).decrypt(sealed).decode()
        except InvalidToken:
            raise RefusedError(
                f"The second step cannot be checked: {self._file} is not the key that it was set up with. Restore that "
                "file, or make a new link with `tapgate accounts create`."
            ) from None

    def _fernet(self, *, make: bool) -> Fernet:
        try:
            if make and not self._file.exists():
                self._file.touch(mode=0o600, exist_ok=False)
                self._file.write_bytes(Fernet.generate_key())
            return Fernet(self._file.read_bytes())
        except (OSError, ValueError) as error:
            raise FatalError(f"The key {self._file} cannot be used ({error}); restore it from the backup.") from None
