"""Reads and checks hub.toml and opens the database, for the daemon and the command-line tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.config import PLAIN_MQTT, HubSettings, is_loopback, load_hub
from gateway.errors import FatalError, RefusedError
from gateway.hub.directory.sites import check_sources, register
from gateway.hub.fleet.enrolment import enrol
from gateway.hub.store.engine import Store, empty_store, newest_revision, open_store
from gateway.privileges import act_as_owner
from gateway.settings_file import SettingsFile

SERVICE_USER = "tapgate-hub"
NO_SIGN_IN = "the pages leave this machine only with [sign_in]; add that section, or write 127.0.0.1"
NO_TLS = (
    "the pages leave this machine only by TLS; name certificate_file and key_file, or write 127.0.0.1 and put a proxy "
    "with TLS before it"
)


def read_settings(path: Path) -> HubSettings:
    """Read hub.toml with the settings of its sources; warnings are in `settings.file.warnings`.

    Raises:
        ConfigError: every problem of the file, in file order.
    """
    settings = load_hub(path)
    _check_names(settings)
    check_sources(settings)
    if settings.ingest == "amqp-quorum" and settings.amqp_url is None:
        settings.file.problem("hub.amqp_url", "is missing; the ingest amqp-quorum needs it")
    if settings.web is not None and not is_loopback(settings.web.host):
        if settings.sign_in is None:
            settings.file.problem("web.host", NO_SIGN_IN)
        elif settings.web.certificate_file is None:
            settings.file.problem("web.host", NO_TLS)
    for number, issuer in enumerate(settings.sign_in.issuers if settings.sign_in else ()):
        if not issuer.secret_file.is_file():
            settings.file.warn(f"sign_in.oidc.{number}.secret_file", f"there is no file {issuer.secret_file}")
    if not settings.broker.tls and not all(is_loopback(host) for host, _ in settings.broker.places):
        settings.file.warn("hub.broker", PLAIN_MQTT)
    settings.file.finish()
    return settings


def _check_names(settings: HubSettings) -> None:
    file = settings.file
    first: dict[str, str] = {}
    for number, site in enumerate(settings.sites):
        _note_double(file, first, site.id, f"site.{number}.id", "site")
        names: dict[str, str] = {}
        for source in site.sources:
            _note_double(file, names, source.name, f"{source.place}.name", "source")


def _note_double(file: SettingsFile, first: dict[str, str], name: str, place: str, what: str) -> None:
    if not name:
        return
    held = first.setdefault(name, place)
    if held != place:
        file.problem(place, f"the {what} {name!r} is already in line {file.line_of(held)}; choose another name")


def prepare_store(settings: HubSettings, *, follow: bool = True) -> Store:
    """Open the database, bring its tables up to date and enter the sites of hub.toml.

    Args:
        follow: False for a process that takes nothing away that its hub.toml does not name (see sites.register).

    Raises:
        FatalError: the state folder cannot be made.
        StoreUnavailable: the database does not answer; try again.
    """
    act_as_owner(settings.state_dir, service_user=SERVICE_USER)
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FatalError(f"The state folder {settings.state_dir} cannot be made ({error.strerror}).") from None
    store = open_store(settings.database, settings.state_dir)
    try:
        store.migrate()
        register(store, settings, follow=follow)
        if follow:
            with store.write() as connection:
                for site in settings.sites:
                    for name in site.gateways:
                        enrol(connection, site.id, name, actor="hub.toml")
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def look_at_store(settings: HubSettings) -> Iterator[Store]:
    """Open the database to read only; where there is none yet, an empty one in memory.

    Raises:
        RefusedError: an older release made its tables.
        StoreUnavailable: the database does not answer or is damaged.
    """
    act_as_owner(settings.state_dir)
    store = open_store(settings.database, settings.state_dir, read_only=True)
    is_missing = store.is_sqlite and not database_file(settings).exists()
    try:
        revision = None if is_missing else store.revision()
        if revision is not None and revision != newest_revision():
            raise RefusedError(
                f"The hub's database has the tables {revision!r}, this release reads {newest_revision()!r}; "
                "start the hub once, or run mis sync, and look again."
            )
        if revision is None:
            store.close()
            store = empty_store()
        yield store
    finally:
        store.close()


def database_file(settings: HubSettings) -> Path:
    """Return the file of an SQLite database; means nothing for another one."""
    return settings.state_dir / settings.database.removeprefix("sqlite:///").partition("?")[0]
