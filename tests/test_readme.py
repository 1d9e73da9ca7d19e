"""The examples in README and the documents of the folders are what the software reads, and their commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.cli import VERBS
from gateway.config import load_gateway, load_hub
from gateway.edge.options import reader_options
from gateway.hub.directory.sites import check_sources
from gateway.readers.base import DRIVERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("systemd", "firmware_config", "gateway", "gateway/mis", "gateway/edge/web", "tests")
DOCUMENTS = {name: (ROOT / name / "README.md").read_text(encoding="utf-8") for name in FOLDERS}
ALL = "\n".join([README, *DOCUMENTS.values()])


def _examples() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", DOCUMENTS["systemd"], re.DOTALL)


def test_the_gateway_example_is_a_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(next(text for text in _examples() if "[gateway]" in text), encoding="utf-8")
    settings = load_gateway(path, tuple(DRIVERS))
    reader_options(settings)
    settings.file.finish()
    assert len(settings.readers) == len(settings.points) == 2


def test_the_hub_example_is_a_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(next(text for text in _examples() if "[hub]\nbroker" in text), encoding="utf-8")
    settings = load_hub(path)
    check_sources(settings)
    settings.file.finish()
    assert [rule.point for rule in settings.sites[0].rules] == ["front-door", "*"]


def test_every_verb_that_is_named_exists_and_every_driver_and_verb_is_listed() -> None:
    named = set(re.findall(r"`tapgate ([a-z][a-z-]+)", ALL))
    assert named <= set(VERBS)
    assert set(VERBS) - named == set()
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", DOCUMENTS["gateway"], re.MULTILINE)) >= set(DRIVERS)


def test_every_file_that_is_named_exists() -> None:
    for name in re.findall(r"(?<![\w/.])(?:systemd|firmware_config|gateway|tests|\.github)/[\w./-]+\w", README):
        assert (ROOT / name).exists(), name


def test_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 140


def test_the_top_level_holds_nothing_but_what_belongs_there() -> None:
    known = {"gateway", "firmware_config", "systemd", "tests", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    known.add("requirements.lock")
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - {"build", "dist", "tapgate.egg-info"} <= known
