"""The test of an agent's set-up: each thing that has to be right by itself, so that its installer sees which is not.

Nothing is sent and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.agent.hub import Hub, HubRefused, HubUnreachable, HubUntrusted
from gateway.agent.settings import AgentSettings
from gateway.config import read_site_key
from gateway.errors import TapgateError
from gateway.mis.base import CheckResult

CLOCK_SECONDS = 60.0
NOT_TRIED = "Not tried, because an earlier step failed."
# The steps of a source in the order in which they can fail, and the words of each; any other word is the last one's.
_SOURCE_STEPS = (
    ("client driver", frozenset({"not_supported"})),
    ("database or file", frozenset({"unreachable", "timeout", "tls", "object_missing"})),
    ("account and rights", frozenset({"refused", "expired", "permission_missing"})),
    ("people", frozenset[str]()),
)
_HUB_STEPS = ("hub reached", "hub's certificate", "clock", "token and source", "same site key")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tested.

    Attributes:
        ok: None when it was not tried.
        warning: it works, but somebody should look.
    """

    name: str
    ok: bool | None
    detail: str
    warning: bool = False


def check_agent(settings: AgentSettings, hub: Callable[[AgentSettings], Hub] = Hub) -> Iterator[Step]:
    """Test one thing after the other and return each as soon as it is known; never raises for one that fails."""
    yield Step("settings", True, f"{settings.file.path} reads {settings.kind} for {settings.site}/{settings.source}.")
    try:
        read_site_key(settings.site_key_file)
    except TapgateError as error:
        yield Step("site key", False, str(error))
        yield from (Step(name, None, NOT_TRIED) for name, _ in _SOURCE_STEPS)
    else:
        yield Step("site key", True, f"{settings.site_key_file} can be read.")
        yield from check_source(settings.connector().check(), settings.kind)
    yield from _check_hub(settings, hub)


def check_source(result: CheckResult, kind: str) -> Iterator[Step]:
    """Return the test of a source step by step, by the word with which it failed."""
    last = len(_SOURCE_STEPS) - 1
    failing = next((place for place, (_, words) in enumerate(_SOURCE_STEPS) if result.failure in words), last)
    good = ("installed" if kind == "sql" else "none needed", "reached", "may read")
    for place, (name, _) in enumerate(_SOURCE_STEPS):
        if result.ok and place == last:
            notices = [f"notice: {text}" for word, text in result.warnings if word != "may_write"]
            yield Step(name, True, " ".join([result.detail, *notices]), bool(notices))
        elif result.ok or place < failing:
            rights = [text for word, text in result.warnings if word == "may_write" and name == "account and rights"]
            yield Step(name, True, " ".join([f"{good[place]}.", *(f"notice: {text}" for text in rights)]), bool(rights))
        elif place == failing:
            yield Step(name, False, f"{result.failure}: {result.detail}")
        else:
            yield Step(name, None, NOT_TRIED)


def _check_hub(settings: AgentSettings, make: Callable[[AgentSettings], Hub]) -> Iterator[Step]:
    steps = list(_HUB_STEPS)
    hub: Hub | None = None
    try:
        hub = make(settings)
        for name, detail in _try_hub(settings, hub):
            steps.remove(name)
            yield Step(name, True, detail)
    except HubUntrusted as error:
        # Its certificate was seen, so it was reached.
        yield Step(steps.pop(0), True, settings.hub)
        yield Step(steps.pop(0), False, str(error))
    except TapgateError as error:
        if isinstance(error, HubRefused) and error.status == 422:
            yield Step(steps.pop(0), True, "accepted.")
        yield Step(steps.pop(0), False, str(error))
    finally:
        if hub is not None:
            hub.close()
    yield from (Step(name, None, NOT_TRIED) for name in steps)


def _try_hub(settings: AgentSettings, hub: Hub) -> Iterator[tuple[str, str]]:
    reached, certificate, clock, token, key = _HUB_STEPS
    difference = hub.clock_difference_seconds()
    yield reached, settings.hub
    is_tls = settings.hub.startswith("https://")
    yield certificate, "trusted." if is_tls else "none: the hub is on this machine."
    if abs(difference) > CLOCK_SECONDS:
        raise HubUnreachable(f"This machine's clock differs from the hub's by {difference:.0f} s; set it by NTP.")
    yield clock, f"within {abs(difference):.0f} s of the hub's."
    hub.is_same("0" * 64)
    yield token, "accepted."
    yield key, "the hub and this machine have the same."
