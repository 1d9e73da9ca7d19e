"""`tapgate agent run|check`: reads a database or an export at the school and sends it to the hub.

It opens no port: every connection goes out, to the one hub that agent.toml names. `check` tests each step by itself and
changes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.agent.hub import Hub, HubUnreachable
from gateway.agent.settings import AgentSettings, load_agent
from gateway.agent.work import Agent
from gateway.errors import SourceUnreachable, TapgateError
from gateway.privileges import act_as_owner
from gateway.service import sd_notify

log = logging.getLogger(__name__)

CONFIG = Path("/etc/tapgate-agent/agent.toml")
SERVICE_USER = "tapgate-agent"
GOOD, FINDINGS, FAILED = 0, 1, 3
BACK_OFF_MINUTES = (1, 5, 15, 60)
_CLOCK_SECONDS = 60.0
_ACTIONS = {
    "run": "read and send, again and again; --once for one round",
    "check": "test database, rights, hub, token and clock, one by one; changes nothing",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    parser.add_argument("action", choices=tuple(_ACTIONS), help=words)
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"agent.toml (default {CONFIG})")
    parser.add_argument("--once", action="store_true", help="run: one round, then end")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run or check the agent."""
    settings = load_agent(arguments.config)
    if arguments.action == "check":
        return _check(settings, as_json=arguments.json)
    act_as_owner(settings.state_dir, service_user=SERVICE_USER)
    hub = Hub(settings)
    try:
        agent = Agent(settings.connector(), hub, settings.state_dir)
        return _once(agent, as_json=arguments.json) if arguments.once else _loop(agent, settings)
    finally:
        hub.close()


def _once(agent: Agent, *, as_json: bool) -> int:
    done = agent.round()
    print("The source reads like last time." if done.is_same else f"{done.sent} of {done.lines} lines were sent.")
    if as_json:
        print(json.dumps({"lines": done.lines, "sent": done.sent, "same": done.is_same}))
    return GOOD


def _loop(agent: Agent, settings: AgentSettings) -> int:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    sd_notify("READY=1")
    failures = 0
    while not stopping.is_set():
        try:
            done = agent.round()
            failures = 0
            words = "the source reads like last time" if done.is_same else f"{done.sent} lines were sent"
            sd_notify(f"STATUS={words}")
            log.info("%s", words)
        except TapgateError as error:
            # What only other settings can mend is tried again too: the hub or the database may be mended first.
            failures += 1
            sd_notify(f"STATUS={error}")
            log.warning("%s", error)
        stopping.wait(60.0 * pause_minutes(settings.every_minutes, failures))
    return GOOD


def pause_minutes(every_minutes: int, failures: int) -> int:
    """Return how long to wait before the next round."""
    if failures == 0:
        return every_minutes
    return BACK_OFF_MINUTES[min(failures, len(BACK_OFF_MINUTES)) - 1]


def _check(settings: AgentSettings, *, as_json: bool) -> int:
    hub: list[Hub] = []
    steps: list[tuple[str, Callable[[], str]]] = [
        ("settings and site key", lambda: _checked_settings(settings)),
        ("database or file", lambda: _checked_source(settings)),
        ("hub reached", lambda: _checked_hub(settings, hub)),
        ("clock", lambda: _checked_clock(hub)),
        ("token accepted", lambda: _checked_token(hub)),
    ]
    rows: list[dict[str, Any]] = []
    for name, step in steps:
        try:
            rows.append({"step": name, "ok": True, "detail": step()})
        except (TapgateError, IndexError) as error:
            detail = "Not tried, because an earlier step failed." if isinstance(error, IndexError) else str(error)
            rows.append({"step": name, "ok": False, "detail": detail})
    for row in rows:
        print(f"{'ok  ' if row['ok'] else 'FAIL'} {row['step']}: {row['detail']}")
    for one in hub:
        one.close()
    is_good = all(row["ok"] for row in rows)
    warnings = [row["detail"] for row in rows if "notice:" in row["detail"]]
    if as_json:
        print(json.dumps({"ok": is_good, "steps": rows}, ensure_ascii=False))
    return FAILED if not is_good else FINDINGS if warnings else GOOD


def _checked_settings(settings: AgentSettings) -> str:
    settings.connector()
    return f"{settings.file.path} reads {settings.kind}"


def _checked_source(settings: AgentSettings) -> str:
    result = settings.connector().check()
    if result.failure is not None:
        raise SourceUnreachable(f"{result.failure}: {result.detail}")
    return " ".join([result.detail, *(f"notice: {text}" for _, text in result.warnings)])


def _checked_hub(settings: AgentSettings, hub: list[Hub]) -> str:
    hub.append(Hub(settings))
    hub[0].clock_difference_seconds()
    return settings.hub


def _checked_clock(hub: list[Hub]) -> str:
    difference = hub[0].clock_difference_seconds()
    if abs(difference) > _CLOCK_SECONDS:
        raise HubUnreachable(f"This machine's clock differs from the hub's by {difference:.0f} s; set it by NTP.")
    return f"within {abs(difference):.0f} s of the hub's"


def _checked_token(hub: list[Hub]) -> str:
    hub[0].is_same("0" * 64)
    return "the hub takes this source from this token"
