"""`tapgate schema events|topics|http`: machine-readable descriptions of what is stored, sent and served.

They are made from the code that stores, sends and serves, so they cannot disagree with it: JSON Schema 2020-12 for
events, AsyncAPI 3.0 for MQTT, OpenAPI for the gateway's HTTP.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec

from gateway import __version__
from gateway.access.event import EVENT_VERSION, Event
from gateway.access.rules import Reason
from gateway.link.messages import GatewayState, HubState, Reported, Watermark
from gateway.link.topics import HUB_STATE, GatewayTopics, roster_chunk, roster_delta, roster_manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("what", choices=["events", "topics", "http"], help="which description to print")


def run(arguments: argparse.Namespace) -> int:
    """Print one description as JSON."""
    made = {"events": event_schema, "topics": async_api, "http": open_api}[arguments.what]()
    print(json.dumps(made, indent=2))
    return 0


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema of one event."""
    schema: dict[str, Any] = msgspec.json.schema(Event)
    definition = schema["$defs"]["Event"]
    # Programs match reasons by their text, and each release has a fixed list.
    definition["properties"]["reason"] = {"enum": [str(reason) for reason in Reason]}
    definition["properties"]["v"] = {"const": EVENT_VERSION}
    return {"$schema": _DIALECT, "title": f"Tapgate event, version {EVENT_VERSION}", **schema}


def async_api() -> dict[str, Any]:
    """Return the AsyncAPI description of every topic, from the gateway's point of view."""
    topics = GatewayTopics("{site}", "{gateway}")
    events = {"type": "array", "maxItems": 50, "items": event_schema()["$defs"]["Event"]}
    channels = [
        ("taps", topics.taps, "send", False, events, "events as they happen"),
        ("backlog", topics.backlog, "send", False, events, "events that waited; historical, never live state"),
        ("state", topics.state, "send", True, _struct(GatewayState), "birth, will and goodbye of a gateway"),
        ("ack", topics.ack, "receive", True, _struct(Watermark), "what the hub has committed"),
        ("hub-state", HUB_STATE, "receive", True, _struct(HubState), "whether the hub takes a backlog"),
        (
            "reported",
            topics.reported,
            "send",
            True,
            _struct(Reported),
            "which roster is in force, why not another, and the verdict of the status page",
        ),
        ("command", topics.command, "receive", False, {"type": "object"}, "a request to the gateway"),
        ("reply", topics.reply, "send", False, {"type": "object"}, "its answer"),
        ("manifest", roster_manifest("{site}"), "receive", True, {"type": "object"}, "the newest roster, signed"),
        ("chunk", roster_chunk("{site}", "{sha256}"), "receive", True, _BINARY, "a part of a roster file, zlib"),
        ("delta", _delta_topic(), "receive", True, _BINARY, "delta between two generations, zlib of MessagePack"),
    ]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Tapgate MQTT", "version": __version__},
        "channels": {
            name: {
                "address": address,
                "description": sentence,
                "messages": {name: {"payload": payload}},
                "parameters": {word: {} for word in _words(address)},
            }
            for name, address, _, _, payload, sentence in channels
        },
        "operations": {
            f"{action}-{name}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "bindings": {"mqtt": {"qos": 1, "retain": retained, "bindingVersion": "0.2.0"}},
            }
            for name, _, action, retained, _, _ in channels
        },
    }


def open_api() -> dict[str, Any]:
    """Return the OpenAPI description of a gateway's HTTP."""
    # FastAPI is imported here, because only this description needs it.
    from gateway.edge.web.app import Requests, build_status_site
    from gateway.edge.web.lane_api import Lanes, LaneSource, mount_lanes
    from gateway.webkit.events import Broadcaster

    def nothing() -> Any:
        raise RuntimeError("this source only serves the description")

    site = build_status_site(Requests(nothing, nothing, lambda _name: False), "gateway", Broadcaster())
    mount_lanes(site.app, Lanes([], LaneSource("gateway", "", nothing, lambda _seq, _n: [], nothing, nothing)), nothing)
    return site.app.openapi()


_BINARY = {"type": "string", "format": "binary"}


def _struct(form: type[msgspec.Struct]) -> dict[str, Any]:
    (definition,) = (item for name, item in msgspec.json.schema(form)["$defs"].items() if name == form.__name__)
    return dict(definition)


def _delta_topic() -> str:
    return roster_delta("{site}", 0, 1).replace("/0-1", "/{from}-{to}")


def _words(address: str) -> list[str]:
    return [part.partition("}")[0] for part in address.split("{")[1:]]
