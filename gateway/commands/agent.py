"""`tapgate agent run|check`: reads a database or an export at the school and sends it to the hub.

It opens no port: every connection goes out, to the one hub that agent.toml names. `check` tests each step by itself and
changes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from gateway.agent.check import check_agent
from gateway.agent.loop import Loop, open_agent
from gateway.agent.settings import AgentSettings, load_agent
from gateway.privileges import act_as_owner
from gateway.service import Beats, run_service

CONFIG = Path("/etc/tapgate-agent/agent.toml")
SERVICE_USER = "tapgate-agent"
GOOD, FINDINGS, FAILED = 0, 1, 3
# A large read over a slow line takes its time between two requests.
_LOOP_SECONDS = 900.0
_MARKS = {True: "ok  ", False: "FAIL", None: "-   "}
_ACTIONS = {
    "run": "read and send, again and again; --once for one round",
    "check": "test driver, database, rights, hub, certificate, clock, token and site key, one by one; changes nothing",
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
    # One line for each of a read's many requests tells nobody anything.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    if arguments.action == "check":
        # What root may read, the service perhaps may not.
        act_as_owner(settings.state_dir)
        return _check(settings, as_json=arguments.json)
    act_as_owner(settings.state_dir, service_user=SERVICE_USER)
    if arguments.once:
        return _once(settings, as_json=arguments.json)
    beats = Beats()
    loop = Loop(arguments.config, beats.register("agent", _LOOP_SECONDS))
    loop.start()
    run_service(beats, loop.stop, lambda: loop.status)
    return GOOD


def _once(settings: AgentSettings, *, as_json: bool) -> int:
    with open_agent(settings) as agent:
        done = agent.round()
    print("The source reads like last time." if done.is_same else f"{done.sent} of {done.lines} lines were sent.")
    if as_json:
        print(json.dumps({"lines": done.lines, "sent": done.sent, "same": done.is_same}))
    return GOOD


def _check(settings: AgentSettings, *, as_json: bool) -> int:
    steps = []
    for step in check_agent(settings):
        steps.append(step)
        print(f"{_MARKS[step.ok]} {step.name}: {step.detail}", flush=True)
    is_good = all(step.ok for step in steps)
    if as_json:
        rows = [{"step": one.name, "ok": one.ok, "detail": one.detail, "warning": one.warning} for one in steps]
        print(json.dumps({"ok": is_good, "steps": rows}, ensure_ascii=False))
    if not is_good:
        return FAILED
    return FINDINGS if any(step.warning for step in steps) else GOOD
