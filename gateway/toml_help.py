"""Explains in one sentence why a text is not TOML and which character to type instead.

tomllib says where it stopped, not what a person sees there: a curly quote or a no-break space from a web page looks
right and is wrong. Nothing here repeats a value.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

_OTHER_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
# Pasted characters by the one to type; escaped, because on the screen they look alike.
_TYPED: tuple[tuple[str, str, str], ...] = (
    ("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02", "a quote", '"'),
    ("\u2018\u2019\u201a\u201b\u2039\u203a\u2032\uff07\u0060\u00b4", "a quote", "'"),
    ("\u2010\u2011\u2012\u2013\u2014\u2212\uff0d", "a hyphen", "-"),
    ("\uff1d\ufe66", "an equals sign", "="),
    ("\uff0c\u3001", "a comma", ","),
    ("\uff3b", "a bracket", "["),
    ("\uff3d", "a bracket", "]"),
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_BLOCK = re.compile(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'')
_BARE_VALUE = re.compile(r"[A-Za-z0-9_\-\"']+\s*=\s*(?P<value>[A-Za-z/~.][^\s#,\]}]*)")
_WORDS = frozenset({"true", "false", "inf", "nan"})
_OTHER_FORM = "this section is written in another form above; write every one as [[...]]"
# What tomllib says, and what to do about it.
_REMEDIES = (
    ("Cannot declare", "this section appears twice; merge the two, or write [[...]] for each if there are several"),
    ("Cannot mutate immutable", _OTHER_FORM),
    ("Cannot overwrite", "this key appears twice in its section; remove one"),
    ("Unescaped '\\'", "write a backslash in a string as \\\\, or put the string in single quotes"),
    ("Illegal character '\\n'", "a string is not closed; its second quote is missing"),
    ("Unterminated string", "a string is not closed; its second quote is missing"),
    ("Expected '=' after a key", "write key = value; put strings in quotes"),
    ("Expected ']", "the brackets of this section are not closed"),
    ("Unclosed array", "the list is not closed; its ] is missing"),
    ("Unclosed inline table", "the table is not closed; its } is missing"),
    ("Invalid value", "this value is not a number, true, false or a string in quotes"),
    ("Invalid statement", "a line must be [section], [[section]] or key = value"),
    ("Expected newline or end of document", "there is something after the value; write one key per line"),
)


def read_marked_text(path: Path) -> str:
    """Read a text file in UTF-8 and skip the byte order mark that Windows editors put in front.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8; the message says what it is and what to do.
    """
    raw = path.read_bytes()
    for mark, name in _OTHER_MARKS:
        if raw.startswith(mark):
            raise ValueError(f"is {name} text; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; save it as UTF-8") from None


def explain(text: str, line: int, complaint: str) -> list[tuple[int, str]]:
    """Return line and sentence of what to type instead; odd characters anywhere in the text come first.

    Args:
        line: where tomllib stopped, from 1.
        complaint: its message.
    """
    plain = _BLOCK.sub(lambda block: '""' + "\n" * block[0].count("\n"), text)
    found = [
        (number, sentence)
        for number, content in enumerate(plain.splitlines(), 1)
        for sentence in _odd_characters(content) or _bare_value(content)
    ]
    if found:
        return found
    lines = plain.splitlines()
    if complaint.startswith("Cannot overwrite") and lines[line - 1 : line] and lines[line - 1].lstrip().startswith("["):
        # tomllib reports a key that appears twice with the same message.
        return [(line, f"{_OTHER_FORM} (TOML: {complaint})")]
    remedy = next((remedy for start, remedy in _REMEDIES if start in complaint), None)
    return [(line, f"{remedy} (TOML: {complaint})" if remedy else complaint)]


def odd_character(character: str) -> str | None:
    """Return what a character is and what to type instead, None for one that is allowed here."""
    for characters, what, typed in _TYPED:
        if character in characters:
            return f"{character} is not {what} here; type {typed}"
    if character.isascii():
        return None
    name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
    kind = unicodedata.category(character)
    if kind == "Zs":
        return f"there is a {name} (U+{ord(character):04X}), which looks like a space; type a space"
    if kind in {"Cf", "Cc", "Co", "Cn"}:
        return f"there is an invisible {name} (U+{ord(character):04X}); remove it"
    return f"{character} ({name}) is allowed only inside quotes and in comments"


def _odd_characters(line: str) -> list[str]:
    # Strings in plain quotes and comments may hold anything.
    outside = _STRING.sub("", line)
    outside = outside.partition("#")[0]
    sentences = [sentence for character in outside if (sentence := odd_character(character))]
    return list(dict.fromkeys(sentences))


def _bare_value(line: str) -> list[str]:
    bare = _BARE_VALUE.fullmatch(_STRING.sub('""', line).partition("#")[0].strip())
    if bare is None or bare["value"] in _WORDS:
        return []
    if bare["value"].lower() in _WORDS | {"yes", "no", "on", "off"}:
        return ["write true or false in lower case"]
    return ["put the value in quotes"]
