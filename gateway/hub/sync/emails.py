"""Which e-mail addresses of a read may be used: each is one person's, or nobody's.

An address is how somebody signs in and where mails about a child go, so a doubtful one is taken from everybody who
has it and told as a conflict; nobody is merged. Whoever has none signs in with an address of the hub that is never
mailed (see `dummy_address`). Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from gateway.hub.directory.names import name_key
from gateway.hub.sync.match import Key
from gateway.hub.sync.operations import Conflict
from gateway.mis.base import Record

_ADDRESS = re.compile(r"[^\s@\"<>,;:\\()\[\]]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_MOST_CHARS = 254
NEVER_MAILED = ".invalid"


def dummy_address(ref: str, site: str) -> str:
    """Return the address with which somebody without an e-mail address signs in; stable, and never mailed."""
    return f"{ref.replace('_', '-')}@{site.lower()}{NEVER_MAILED}"


def is_address(text: str) -> bool:
    """Return whether a mail could be sent to this."""
    return len(text) <= _MOST_CHARS and _ADDRESS.fullmatch(text) is not None and not text.endswith(NEVER_MAILED)


def settle_emails(records: Mapping[Key, Record], *, pupils: bool | None) -> tuple[dict[Key, Record], list[Conflict]]:
    """Take doubtful addresses away from the people of a read, and say which and why.

    Args:
        pupils: whether the addresses of pupils come in; None: new ones do not, and what is here already stays.
    """
    settled = dict(records)
    conflicts: list[Conflict] = []
    holders: dict[str, list[Key]] = defaultdict(list)
    for key, record in records.items():
        email = record.fields.email
        if not email:
            continue
        if record.role == "student" and not pupils:
            settled[key] = _without(record, "" if pupils is False else None)
        elif not is_address(email):
            conflicts.append(_conflict(record, "email_bad", "The e-mail address in the source is not one."))
            settled[key] = _without(record)
        else:
            holders[email].append(key)
    for keys in holders.values():
        people = [records[key] for key in keys]
        if _are_one(people):
            continue
        why = f"{len(people)} people have this e-mail address in the source, so none of them gets it."
        conflicts += [_conflict(record, "email_shared", why) for record in people]
        settled |= {key: _without(records[key]) for key in keys}
    return settled, conflicts


def _are_one(people: list[Record]) -> bool:
    # A member of staff who is also a parent, or a parent who stands in the source once for each child.
    names = {name_key(record.fields.given_name, record.fields.family_name) for record in people}
    roles = [record.role for record in people]
    return len(people) == 1 or (len(names) == 1 and roles.count("staff") <= 1 and "student" not in roles)


def _without(record: Record, email: str | None = "") -> Record:
    # Empty: what was there before goes. None would mean that the source says nothing, and what was there stays.
    return replace(record, fields=msgspec.structs.replace(record.fields, email=email))


def _conflict(record: Record, kind: str, why: str) -> Conflict:
    why = f"{why} Correct it there; until then nobody is mailed at it."
    return Conflict(kind, record.role, record.person_key, record.place, why, summary=record.fields.name)
