"""The tables of the hub, one file a room; a change here needs a migration of its own (tests compare the two).

Times are whole milliseconds since 1970 in UTC (`*_ms`), the same number in SQLite and PostgreSQL. Card numbers do not
exist here, only card keys (32 hex digits) and the tail that people may see.
"""

from __future__ import annotations

from gateway.hub.store.tables.accounts import (
    account,
    account_grant,
    api_token,
    attempt,
    email_domain,
    one_time_token,
    sign_in_way,
    web_session,
)
from gateway.hub.store.tables.attendance import attendance_mark, register_settings
from gateway.hub.store.tables.audit import audit, audit_head
from gateway.hub.store.tables.base import metadata
from gateway.hub.store.tables.events import event, event_copy, mark, moved_event, quarantine, quarantine_use
from gateway.hub.store.tables.facts import (
    event_revision,
    hand_movement,
    movement,
    presence,
    projection,
    two_places,
)
from gateway.hub.store.tables.fleet import chain_fault, gateway, hub_claim, roster_generation, witness
from gateway.hub.store.tables.people import (
    card,
    field_override,
    grouping,
    holding,
    identity,
    membership,
    person,
    person_claim,
    user_type,
)
from gateway.hub.store.tables.site import access_rule, holiday, point_policy, site, site_change, site_change_card
from gateway.hub.store.tables.sync import conflict, hold_op, source, source_cursor, sync_run
from gateway.hub.store.tables.uploads import upload, upload_part
from gateway.hub.store.tables.work import alarm, job, mail

__all__ = [
    "access_rule",
    "account",
    "account_grant",
    "alarm",
    "api_token",
    "attempt",
    "attendance_mark",
    "audit",
    "audit_head",
    "card",
    "chain_fault",
    "conflict",
    "email_domain",
    "event",
    "event_copy",
    "event_revision",
    "field_override",
    "gateway",
    "grouping",
    "hand_movement",
    "hold_op",
    "holding",
    "holiday",
    "hub_claim",
    "identity",
    "job",
    "mail",
    "mark",
    "membership",
    "metadata",
    "moved_event",
    "movement",
    "one_time_token",
    "person",
    "person_claim",
    "point_policy",
    "presence",
    "projection",
    "quarantine",
    "quarantine_use",
    "register_settings",
    "roster_generation",
    "sign_in_way",
    "site",
    "site_change",
    "site_change_card",
    "source",
    "source_cursor",
    "sync_run",
    "two_places",
    "upload",
    "upload_part",
    "user_type",
    "web_session",
    "witness",
]
