from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from gateway.cli import main
from gateway.commands.schema import async_api, event_schema, open_api
from gateway.link.topics import GatewayTopics

SAMPLES = sorted((Path(__file__).parents[1] / "access" / "samples").glob("event_v*.json"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_stored_events_are_valid_against_the_published_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), event_schema())


def test_the_schema_refuses_an_event_with_an_unknown_reason_or_without_its_number() -> None:
    event = json.loads(SAMPLES[0].read_text(encoding="utf-8"))
    for change in ({"reason": "bad_mood"}, {"v": 2}, {"kind": "nap"}, {"up": "soon"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**event, **change}, event_schema())


def test_every_topic_that_the_code_spells_is_described() -> None:
    described = {channel["address"] for channel in async_api()["channels"].values()}
    topics = GatewayTopics("{site}", "{gateway}")
    for name in ("taps", "backlog", "ack", "state", "reported", "command", "reply"):
        assert getattr(topics, name) in described
    for operation in async_api()["operations"].values():
        assert operation["bindings"]["mqtt"]["qos"] == 1


def test_the_http_description_names_lanes_and_health() -> None:
    paths = open_api()["paths"]
    assert {"/v1/info", "/v1/lanes/{lane}/events", "/v1/lanes/{lane}/session", "/health/ready"} <= paths.keys()


@pytest.mark.parametrize("what", ["events", "topics", "http"])
def test_the_verb_prints_json(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", what]) == 0
    assert json.loads(capsys.readouterr().out)
