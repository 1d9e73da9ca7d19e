"""The texts of all mails; a text names the site, the source or gateway, never a person.

Those about an account hold nothing to keep secret besides a link that works once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FOOT = "\n\nThis mail comes from the school's Tapgate hub; at most one a day is sent while this lasts.\n"
_KEPT = "Nobody is locked out: the last good cards stay in use, and reading goes on where it stopped."


@dataclass(frozen=True, slots=True)
class Text:
    subject: str
    body: str


TEXTS: dict[str, Text] = {
    "source_unreachable": Text(
        "{site}: the source {source} cannot be reached",
        "The hub has not reached the source {source} of {site} since {since}.\n\n{why}\n\n"
        "Most often a firewall rule has changed, or the server is off. Let the hub's address through to the source's "
        "host and port; `tapgate mis check` on the hub tests it. It tries again by itself.\n\n" + _KEPT,
    ),
    "source_password": Text(
        "{site}: the source {source} no longer accepts our sign-in",
        "Since {since} the source {source} of {site} has refused the hub's password, token or key.\n\n{why}\n\n"
        "Most often it has expired. Renew it and write the new one to the file that hub.toml names; reading has "
        "stopped so that the account is not locked, and goes on by itself once that file or hub.toml has changed."
        "\n\n" + _KEPT,
    ),
    "source_moved": Text(
        "{site}: what the source {source} reads is no longer there",
        "Since {since} the hub has reached the server of the source {source} of {site}, but not the database, view, "
        "file or school that it should read.\n\n{why}\n\n"
        "Most often it was moved or renamed. Write its new name in hub.toml and run `tapgate mis check`.\n\n" + _KEPT,
    ),
    "source_failing": Text(
        "{site}: the source {source} has not been read since {since}",
        "The last reads of the source {source} of {site} failed.\n\n{why}\n\n"
        "`tapgate mis check` on the hub says more.\n\n" + _KEPT,
    ),
    "held": Text(
        "{site}: changes from {source} wait for somebody",
        "The last read of the source {source} of {site} would change more than is usual, so part of it waits since "
        "{since}.\n\nLook at the page MIS syncs of the hub and approve it if it is right.\n\n" + _KEPT,
    ),
    "gateway_silent": Text(
        "{site}: the gateway {gateway} has been silent for a school day",
        "The hub has not heard from the gateway {gateway} of {site} since {since}.\n\n"
        "It decides and records by itself meanwhile, with the cards it has. Look at its power and network.",
    ),
    "hub_alarm": Text("The hub needs somebody", "{why}\n\nSee the page Gateways of the hub."),
    "invitation": Text(
        "You are invited to the school's Tapgate hub",
        "You may sign in to the pages of the school's Tapgate hub. This link sets your password; it works once, for 24 "
        "hours:\n\n{link}\n\n"
        "If it works no more, ask whoever invited you for another. If you expect no invitation, delete this mail.\n",
    ),
    "password_reset": Text(
        "Set a new password for the school's Tapgate hub",
        "Somebody, most likely you, forgot the password of your account at the school's Tapgate hub. This link sets a "
        "new one; it works once, for one hour:\n\n{link}\n\n"
        "A second step stays on, and you are signed out everywhere else. If it was not you, delete this mail: your "
        "password stays as it is.\n",
    ),
    "password_at_issuer": Text(
        "How you sign in to the school's Tapgate hub",
        "Somebody, most likely you, forgot the password of your account at the school's Tapgate hub. The account has "
        "none: open {pages}/sign-in and sign in at {issuer}. Only they can set a new password there.\n\n"
        "If it was not you, delete this mail.\n",
    ),
    "over": Text("Over: {subject}", "This is over since {until}; it began {since}.\n\nNothing is left to do."),
}


_WITHOUT_FOOT = {"invitation", "password_reset", "password_at_issuer", "over"}


def render(template: str, params: Mapping[str, str]) -> Text:
    """Fill in a text; what a line of a mail's head may not hold becomes a space."""
    text = TEXTS[template]
    subject = " ".join(text.subject.format_map(params).split())
    foot = "" if template in _WITHOUT_FOOT else _FOOT
    return Text(subject[:200], text.body.format_map(params) + foot)
