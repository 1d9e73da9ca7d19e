"""`tapgate hub init|issue|revoke|gateways`: keys, certificates and broker files, each created once and kept.

Run by root; every file gets the owner of the service that reads it. A second run makes what is missing and changes
nothing else, so that it is also the way to mend an installation.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from gateway.config import HubSettings, SiteSettings, check_id, load_hub
from gateway.errors import ConfigError, FatalError
from gateway.hub.directory.cards import by_hand
from gateway.hub.fleet.authority import Authority, Issued
from gateway.hub.fleet.broker_rights import access_list
from gateway.hub.fleet.enrolment import enrol, enrolled, revoke
from gateway.hub.settings import SERVICE_USER, prepare_store, read_settings
from gateway.hub.store.engine import Store
from gateway.privileges import act_as_owner, as_owner, put_file, user_name
from gateway.roster.signing import load_or_create_signer
from gateway.share import shipped

BROKER_USER = "mosquitto"
GATEWAY_USER = "tapgate"
_CONF_PLACE = "/etc/mosquitto/tapgate"
_RELOAD = ("systemctl", "try-reload-or-restart", "mosquitto")

_HUB_TOML = """\
# The hub of this school or trust. `tapgate check-config FILE` names every error; restart tapgate-hub after an edit.
[hub]
state_dir = "{state}"
broker = "mqtts://127.0.0.1:8884"
ca_file = "{state}/ca/ca.crt"
cert_file = "{state}/ca/hub.crt"
key_file = "{state}/ca/hub.key"
address = "{address}"

[web]

[[site]]
id = "{site}"
name = "{name}"
timezone = "Europe/London"
site_key_file = "{state}/sites/{site}.key"

# Where people and cards come from; try it with `tapgate mis check` and `tapgate mis preview`.
# [[site.source]]
# name = "mis"
# kind = "csv"
# path = "/srv/mis/people.csv"
# card_encoding = "hex-msb"
"""

_GATEWAY_TOML = """\
# Gateway {gateway} of {site}. `tapgate check-config FILE` names every error; restart tapgate after an edit.
[gateway]
id = "{gateway}"
site = "{site}"
timezone = "{zone}"
site_key_file = "/etc/tapgate/site.key"
roster_signer = "{signer}"

[hub]
url = "mqtts://{address}:8883"
ca_file = "/etc/tapgate/ca.crt"
cert_file = "/etc/tapgate/gateway.crt"
key_file = "/etc/tapgate/gateway.key"

[web]

# Readers and points: `tapgate readers list` shows what is plugged in, `tapgate wiring show PROFILE` prints sections.
"""


def run(arguments: argparse.Namespace) -> int:
    """Run one step of the set-up."""
    if arguments.action == "init":
        return _init(arguments)
    settings = read_settings(arguments.config)
    if arguments.action == "gateways":
        return _list(settings)
    site, gateway = _split(arguments.name, arguments.action)
    if arguments.action == "issue":
        return _issue(arguments, settings, site, gateway)
    with as_owner(settings.state_dir), _opened(settings) as store, store.write() as connection:
        revoke(connection, site, gateway, actor=by_hand(user_name()))
    _write_rights(settings, arguments.broker_dir)
    print(f"{site}/{gateway} is revoked; broker and hub refuse what it sends.")
    return 0


def _split(name: str | None, action: str) -> tuple[str, str]:
    site, slash, gateway = (name or "").partition("/")
    if not slash or check_id(site) or check_id(gateway):
        raise ConfigError([f"hub:0: {action}: needs a gateway as SITE/GATEWAY; use letters, digits, - and _ only."])
    return site, gateway


def _init(arguments: argparse.Namespace) -> int:
    config: Path = arguments.config
    state: Path = arguments.state_dir
    if config.exists():
        settings = load_hub(config)
        settings.file.finish()
        state = settings.state_dir
        address = arguments.address or settings.address
    else:
        address = arguments.address
        if arguments.site is None or address is None:
            raise ConfigError(["hub:0: init: needs --site ID and --address HOST, where gateways reach this hub."])
        if problem := check_id(arguments.site):
            raise ConfigError([f"hub:0: --site: {problem}."])
    if address is None:
        raise ConfigError([f"{config}:0: hub.address: is missing; write the name where gateways reach this hub."])
    _folder(state, SERVICE_USER, 0o700)
    for name in ("ca", "sites"):
        _folder(state / name, SERVICE_USER, 0o700)
    _folder(config.parent, "root", 0o750, SERVICE_USER)
    name = (arguments.site_name or arguments.site or "").replace('"', "'")
    text = _HUB_TOML.format(state=state, address=address, site=arguments.site, name=name)
    _make(config, text.encode, 0o640, "root", SERVICE_USER)
    settings = load_hub(config)
    settings.file.finish()
    authority = _authority(state)
    now = dt.datetime.now(dt.UTC)
    _pair(state / "ca" / "hub", lambda: authority.issue_hub(now), SERVICE_USER)
    for site in settings.sites:
        _make(site.site_key_file, lambda: secrets.token_hex(32).encode() + b"\n", 0o600, SERVICE_USER)
    with as_owner(state):
        load_or_create_signer(settings.signing_key_file)
    _broker_files(arguments.broker_dir, authority, address, now)
    _write_rights(settings, arguments.broker_dir)
    print(f"Next: edit {config}, then: systemctl enable --now tapgate-hub && tapgate hub issue SITE/GATEWAY")
    print("So that people sign in to its pages: tapgate accounts create --role org-admin --email you@school.example")
    return 0


def _make(path: Path, content: Callable[[], bytes], mode: int, owner: str, group: str | None = None) -> None:
    if path.exists():
        print(f"kept  {path}")
        return
    put_file(path, content(), mode, owner, group or owner)
    print(f"made  {path}")


def _folder(path: Path, owner: str, mode: int, group: str | None = None) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        if os.geteuid() == 0:
            shutil.chown(path, owner, group or owner)
    except (OSError, LookupError) as error:
        raise FatalError(f"The folder {path} cannot be prepared ({error}); run `tapgate install hub` first.") from None


def _authority(state: Path) -> Authority:
    certificate, key = state / "ca" / "ca.crt", state / "ca" / "ca.key"
    if certificate.exists() != key.exists():
        missing = key if certificate.exists() else certificate
        raise FatalError(f"{missing} is missing but its counterpart is there; restore both from the hub's backup.")
    if not certificate.exists():
        made, pem = Authority.create(f"Tapgate {secrets.token_hex(4)}", dt.datetime.now(dt.UTC))
        _make(key, lambda: pem, 0o600, SERVICE_USER)
        _make(certificate, lambda: made.certificate, 0o644, SERVICE_USER)
        return made
    print(f"kept  {certificate}")
    return Authority(certificate.read_bytes(), key.read_bytes())


def _pair(stem: Path, issue: Callable[[], Issued], owner: str) -> None:
    certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    if certificate.exists() and key.exists():
        print(f"kept  {certificate}")
        return
    issued = issue()
    put_file(key, issued.key, 0o600, owner, owner)
    put_file(certificate, issued.certificate, 0o644, owner, owner)
    print(f"made  {certificate}")


def _broker_files(broker: Path, authority: Authority, address: str, now: dt.datetime) -> None:
    own = broker / "tapgate"
    _folder(own, "root", 0o750, BROKER_USER)
    hosts = list(dict.fromkeys((address, "localhost", "127.0.0.1")))
    _pair(own / "broker", lambda: authority.issue_broker(hosts, now), BROKER_USER)
    put_file(own / "ca.crt", authority.certificate, 0o644, "root", BROKER_USER)
    (broker / "conf.d").mkdir(exist_ok=True)
    text = shipped("systemd").joinpath("mosquitto-tapgate.conf").read_text(encoding="utf-8")
    put_file(broker / "conf.d" / "tapgate.conf", text.replace(_CONF_PLACE, str(own)).encode(), 0o644, "root", "root")
    print(f"made  {broker / 'conf.d' / 'tapgate.conf'}")


def _write_rights(settings: HubSettings, broker: Path) -> None:
    """Write the broker's access list from the hub's database, and let a running mosquitto read it."""
    with as_owner(settings.state_dir), _opened(settings) as store, store.read() as connection:
        gateways = [(site, name) for site, name, _ in enrolled(connection)]
    put_file(broker / "tapgate" / "acl", access_list(gateways).encode(), 0o640, "root", BROKER_USER)
    if broker != Path("/etc/mosquitto"):
        return
    try:
        subprocess.run(_RELOAD, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        print("mosquitto could not be reloaded; restart it: systemctl restart mosquitto")


def _opened(settings: HubSettings) -> Store:
    return prepare_store(settings, follow=False)


def _site(settings: HubSettings, name: str) -> SiteSettings:
    for site in settings.sites:
        if site.id == name:
            return site
    raise ConfigError([f"{settings.file.path}:0: site: there is no [[site]] with id {name!r}; add it first."])


def _issue(arguments: argparse.Namespace, settings: HubSettings, site_id: str, gateway: str) -> int:
    site = _site(settings, site_id)
    out: Path = arguments.out or Path(f"{site_id}-{gateway}.tar")
    if settings.address is None:
        raise ConfigError([f"{settings.file.path}:0: hub.address: is missing; run `tapgate hub init` again."])
    ca = settings.state_dir / "ca"
    try:
        authority = Authority((ca / "ca.crt").read_bytes(), (ca / "ca.key").read_bytes())
        site_key = site.site_key_file.read_bytes()
    except OSError as error:
        raise FatalError(f"{error.filename} cannot be read ({error.strerror}); run `tapgate hub init` first.") from None
    issued = authority.issue_gateway(site_id, gateway, dt.datetime.now(dt.UTC))
    until_ms = int(issued.valid_until.timestamp() * 1000)
    with as_owner(settings.state_dir):
        signer = load_or_create_signer(settings.signing_key_file).public_key.hex()
        with _opened(settings) as store, store.write() as connection:
            actor = by_hand(user_name())
            is_new = enrol(connection, site_id, gateway, actor=actor, certificate_until_ms=until_ms)
    files = {
        "ca.crt": authority.certificate,
        "gateway.crt": issued.certificate,
        "gateway.key": issued.key,
        "site.key": site_key,
    }
    if is_new:
        # A bundle that renews must not overwrite the readers and points that were added meanwhile.
        text = _GATEWAY_TOML.format(
            gateway=gateway, site=site_id, zone=site.timezone.key, signer=signer, address=settings.address
        )
        files["gateway.toml"] = text.encode()
    put_file(out, _pack(files), 0o600)
    _write_rights(settings, arguments.broker_dir)
    what = "is let in" if is_new else "has a new certificate"
    print(f"{site_id}/{gateway} {what} until {issued.valid_until:%Y-%m-%d}.")
    print(f"Copy {out} to the gateway (it holds private keys: delete it afterwards), then run there:")
    print(f"  sudo tar -C /etc/tapgate -xf {out.name}")
    return 0


def _pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o640
            # GNU tar run by root looks the names up on the gateway, so that the service may read its own files.
            entry.uname, entry.gname = "root", GATEWAY_USER
            entry.mtime = int(dt.datetime.now(dt.UTC).timestamp())
            bundle.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _list(settings: HubSettings) -> int:
    act_as_owner(settings.state_dir)
    with _opened(settings) as store, store.read() as connection:
        rows = enrolled(connection)
    for site, name, until_ms in rows:
        until = dt.datetime.fromtimestamp((until_ms or 0) / 1000, dt.UTC).date().isoformat()
        print(f"{site}/{name}  {f'certificate until {until}' if until_ms else 'named in hub.toml'}")
    if not rows:
        print("No gateway is enrolled yet; enrol one with: tapgate hub issue SITE/GATEWAY")
    return 0
