"""hub.toml read and checked whole, shared by the daemon and the tools beside it."""

from __future__ import annotations

from pathlib import Path

from gateway.config import HubSettings, load_hub
from gateway.errors import FatalError
from gateway.hub.directory.sites import check_sources, register
from gateway.hub.store.engine import Store, open_store


def read_settings(path: Path) -> HubSettings:
    """Read hub.toml with the settings of its sources.

    Raises:
        ConfigError: every problem of the file, in file order.
    """
    settings = load_hub(path)
    check_sources(settings)
    settings.file.finish()
    return settings


def prepare_store(settings: HubSettings) -> Store:
    """Open the database, bring its tables up to date and enter the sites of hub.toml.

    Raises:
        FatalError: the state folder cannot be made.
        StoreUnavailable: the database does not answer; try again.
    """
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FatalError(f"The state folder {settings.state_dir} cannot be made ({error.strerror}).") from None
    store = open_store(settings.database, settings.state_dir)
    store.migrate()
    register(store, settings)
    return store
