"""Which e-mail addresses of a read may be used: each is one person's, or nobody's.

An address is how somebody signs in and where mails about a child go, so a doubtful one is taken from everybody who
has it and told as a conflict; nobody is merged. One that the directory has under another id stays with its holder.
Whoever has none signs in with an address of the hub that is never mailed (see `dummy_address`). Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from gateway.hub.directory.names import name_key
from gateway.hub.sync.known import KnownPerson
from gateway.hub.sync.match import Key
from gateway.hub.sync.operations import Conflict
from gateway.mis.base import PersonFields, Record

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
        if _may_share([record.fields for record in people]):
            continue
        why = f"{len(people)} people have this e-mail address in the source, so none of them gets it."
        conflicts += [_conflict(record, "email_shared", why) for record in people]
        settled |= {key: _without(records[key]) for key in keys}
    return settled, conflicts


def keep_from_others(
    found: Iterable[tuple[str | None, Record]], holders: Iterable[KnownPerson]
) -> tuple[dict[Key, Record], list[Conflict]]:
    """Take an address away from whoever is not its holder in the directory; return the changed records.

    Args:
        found: the people of a read with their references, None for newcomers.
        holders: who keeps the address they have, whatever this read says of others.
    """
    held: dict[str, list[KnownPerson]] = defaultdict(list)
    for person in holders:
        held[person.email or ""].append(person)
    changed: dict[Key, Record] = {}
    conflicts: list[Conflict] = []
    for ref, record in found:
        others = [person for person in held.get(record.fields.email or "", ()) if person.ref != ref]
        if not record.fields.email or not others or _may_share([record.fields, *others]):
            continue
        other = min(others, key=lambda person: person.ref)
        why = f"This e-mail address is in use by somebody with another id ({other.role} {other.person_key})."
        conflicts.append(_conflict(record, "email_other_id", why))
        changed[record.role, record.person_key] = _without(record)
    return changed, conflicts


def _may_share(people: Sequence[PersonFields | KnownPerson]) -> bool:
    # A member of staff who is also a parent, or a parent who stands in the source once for each child.
    names = {name_key(person.given_name, person.family_name) for person in people}
    roles = [person.role for person in people]
    return len(people) == 1 or (len(names) == 1 and roles.count("staff") <= 1 and "student" not in roles)


def _without(record: Record, email: str | None = "") -> Record:
    # Empty: what was there before goes. None would mean that the source says nothing, and what was there stays.
    return replace(record, fields=msgspec.structs.replace(record.fields, email=email))


def _conflict(record: Record, kind: str, why: str) -> Conflict:
    why = f"{why} Correct it there; until then nobody is mailed at it."
    return Conflict(kind, record.role, record.person_key, record.place, why, summary=record.fields.name)
