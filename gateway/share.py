"""Files that ship with the code: units, broker files, wiring profiles."""

from __future__ import annotations

from pathlib import Path


def shipped(folder: str) -> Path:
    """Return a folder such as `systemd`, of the installed package or of the checkout."""
    here = Path(__file__).parent
    installed = here / "_share" / folder
    return installed if installed.is_dir() else here.parent / folder
