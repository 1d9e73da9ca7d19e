"""What people paste into a configuration, and the sentence that says which character to type instead."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import main
from gateway.config import load_gateway, load_hub, read_site_key
from gateway.errors import ConfigError
from gateway.readers.base import DRIVERS
from gateway.toml_help import explain, odd_character

GATEWAY = '[gateway]\nid = "gw"\nsite = "s"\nsite_key_file = "site.key"\n'


def _problems(tmp_path: Path, raw: bytes | str) -> list[str]:
    path = tmp_path / "gateway.toml"
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(ConfigError) as caught:
        load_gateway(path, tuple(DRIVERS)).file.finish()
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_byte_order_mark_is_skipped_in_the_configuration_and_in_the_key(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_bytes(b"\xef\xbb\xbf" + GATEWAY.encode())
    (tmp_path / "site.key").write_bytes(b"\xef\xbb\xbf" + b"ab" * 32 + b"\r\n")
    assert main(["check-config", str(tmp_path / "gateway.toml")]) == 0
    assert read_site_key(tmp_path / "site.key") == bytes.fromhex("ab" * 32)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    [problem] = _problems(tmp_path, (mark + GATEWAY).encode(encoding))
    assert problem == f"0: file: is {encoding[:6].upper()} text; save it as UTF-8."


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"s"', "“s”", '3: syntax: “ is not a quote here; type "'),
        ('"s"', "„s“", '3: syntax: „ is not a quote here; type "'),
        ('"s"', "\u2018s\u2019", "3: syntax: \u2018 is not a quote here; type '"),
        ("site = ", "site\u00a0= ", "3: syntax: there is a no-break space (U+00A0), which looks like a space"),
        ("site = ", "site =\u3000", "3: syntax: there is a ideographic space (U+3000)"),
        ("site = ", "\u200bsite = ", "3: syntax: there is an invisible zero width space (U+200B); remove it"),
        ("site = ", "site \uff1d ", "3: syntax: \uff1d is not an equals sign here; type ="),
        ('site_key_file = "site.key"', 'site\u2013key = "x"', "4: syntax: \u2013 is not a hyphen here; type -"),
        ('"site.key"', "site.key", "4: syntax: put the value in quotes"),
        ('"site.key"', "/etc/tapgate/site.key", "4: syntax: put the value in quotes"),
        ('"s"', '"s', "3: syntax: a string is not closed; its second quote is missing"),
        ('"site.key"', '"C:\\keys\\site.key"', "4: syntax: write a backslash in a string as \\\\"),
        ("site = ", "site : ", "3: syntax: write key = value"),
        ("[gateway]", "[gateway", "1: syntax: the brackets of this section are not closed"),
        ("[gateway]", "[gateway]\n[gateway]", "2: syntax: this section appears twice"),
        ('site = "s"', 'site = "s"\nsite = "t"', "4: syntax: this key appears twice"),
        ('"s"', "True", "3: syntax: write true or false in lower case"),
    ],
)
def test_the_message_says_what_to_type(tmp_path: Path, old: str, new: str, problem: str) -> None:
    problems = _problems(tmp_path, GATEWAY.replace(old, new, 1))
    assert any(found.startswith(problem) for found in problems), problems


def test_curly_quotes_in_a_text_or_a_comment_are_nobody_s_fault(tmp_path: Path) -> None:
    text = GATEWAY.replace('"s"', '"“s”" # ‘see’') + "[web\n"  # noqa: RUF001  # they are the case
    [problem] = _problems(tmp_path, text)
    assert problem.startswith("5: syntax: the brackets of this section are not closed (TOML: Expected ']'")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[gateway]]\nid = 'gw'\n", "gateway: is written as [[gateway]]; there can be only one, so write [gateway]"),
        ("gateway = 5\n", "gateway: must be a section; write [gateway] on a line of its own"),
        (GATEWAY + "[reader]\nid = 'r'\n", "reader: is written as [reader]; there may be several, so write [[reader]]"),
        (GATEWAY + "[point.front]\nkind = 'door'\n", "point: is written as [point]; there may be several"),
        (GATEWAY + "[[hub]]\nurl = 'x'\n", "hub: is written as [[hub]]; there can be only one"),
        ("reader = [1]\n" + GATEWAY, "reader: must be written as [[reader]] sections"),
        (GATEWAY + "[reader]\nid = 'r'\n[[reader]]\nid = 'q'\n", "syntax: this section is written in another form"),
    ],
)
def test_a_section_of_the_wrong_kind_is_named_with_the_right_one(tmp_path: Path, text: str, sentence: str) -> None:
    problems = _problems(tmp_path, text)
    assert any(sentence in problem for problem in problems), problems


SECTIONS = ("gateway", "hub", "web", "journal", "reader", "point", "site")
FORMS = ("{0} = 5\n", "{0} = 'x'\n", "{0} = []\n", "{0} = [1]\n", "{0} = [[]]\n", "[{0}]\n", "[[{0}]]\n", "[{0}.x]\n")


@pytest.mark.parametrize(("section", "form"), list(itertools.product(SECTIONS, FORMS)))
def test_no_form_of_a_section_ends_in_anything_but_sentences(tmp_path: Path, section: str, form: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(form.format(section), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_gateway(path, tuple(DRIVERS)).file.finish()
    with pytest.raises(ConfigError):
        load_hub(path).file.finish()
    assert main(["check-config", str(path)]) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is empty"),
        ("ab" * 31, "it has 62 characters, 62 of them hex digits"),
        ("“" + "ab" * 32 + "”", "“ is not a quote here"),
        ("ab" * 16 + "\u00a0" + "ab" * 16, "no-break space"),
        ("q83v" * 11, "it has 44 characters"),
        ('"' + "ab" * 32 + '"', "it has 66 characters, 64 of them hex digits"),
    ],
)
def test_a_site_key_that_is_none_says_why_and_not_what_it_holds(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "site.key").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_site_key(tmp_path / "site.key")
    assert sentence in str(caught.value)
    assert "abab" not in str(caught.value).replace(str(tmp_path), "")


def test_a_site_key_of_powershell_is_named_as_utf_16(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text("ab" * 32, encoding="utf-16")
    with pytest.raises(ConfigError, match="is UTF-16 text; save it as UTF-8"):
        read_site_key(tmp_path / "site.key")


@given(st.characters())
def test_every_character_is_in_order_or_has_a_sentence_of_one_line(character: str) -> None:
    sentence = odd_character(character)
    assert sentence is None or (sentence and "\n" not in sentence)


@given(st.text(max_size=80))
def test_any_text_is_explained(text: str) -> None:
    assert all(line >= 1 and sentence for line, sentence in explain(text, 1, "Invalid statement"))
