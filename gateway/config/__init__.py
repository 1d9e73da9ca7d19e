"""Configuration files: TOML to typed settings, every error as `file:line: key: message`.

Unknown keys are errors. Secrets are only named by file; no message repeats a value of a key that names one. The options
of a reader's driver and of an MIS source stay opaque here: the package that owns them checks them and reports through
`SettingsFile.problem`, so that one run reports every error of a file, in file order.

What lives here: gateway.toml, hub.toml and what the two have in common.
What it never imports: any other package of the gateway.
Read first: gateway.py, then hub.py.
"""

from gateway.config.common import (
    PLAIN_MQTT,
    SITE_KEY_BYTES,
    BrokerSettings,
    WebSettings,
    check_id,
    is_loopback,
    read_site_key,
)
from gateway.config.gateway import (
    EGRESS_WAYS,
    LOCK_KINDS,
    POINT_KINDS,
    GatewaySettings,
    PointSettings,
    ReaderSettings,
    load_gateway,
)
from gateway.config.hub import (
    COPIES,
    SOURCE_KINDS,
    STALE,
    UNSET_CLOCK,
    HubSettings,
    MailSettings,
    PointPolicySettings,
    RuleSettings,
    SiteSettings,
    SourceSettings,
    load_hub,
)
from gateway.config.register import ActionSettings, RegisterSettings, SessionSettings
from gateway.config.sign_in import IssuerSettings, SignInSettings
from gateway.config.user_types import UserTypeSettings

__all__ = [
    "COPIES",
    "EGRESS_WAYS",
    "LOCK_KINDS",
    "PLAIN_MQTT",
    "POINT_KINDS",
    "SITE_KEY_BYTES",
    "SOURCE_KINDS",
    "STALE",
    "UNSET_CLOCK",
    "ActionSettings",
    "BrokerSettings",
    "GatewaySettings",
    "HubSettings",
    "IssuerSettings",
    "MailSettings",
    "PointPolicySettings",
    "PointSettings",
    "ReaderSettings",
    "RegisterSettings",
    "RuleSettings",
    "SessionSettings",
    "SignInSettings",
    "SiteSettings",
    "SourceSettings",
    "UserTypeSettings",
    "WebSettings",
    "check_id",
    "is_loopback",
    "load_gateway",
    "load_hub",
    "read_site_key",
]
