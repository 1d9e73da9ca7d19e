"""Rules of the house that neither ruff nor import-linter knows; each check is first shown a tree that breaks it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import gateway

ROOT = Path(gateway.__file__).parent
MOST_LINES = 400
# What the docstring of a longer module says before its reason.
REASON = "Over 400 lines because "
# Modules under repair elsewhere, whose docstrings are to take the reason over.
# Participles that read as translated; the field's nouns are query, payload, reported, request, actions and the like.
ODD_NAMES = {"wanted", "told", "said", "asked", "doings", "whose"}


def _modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def _tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Return the modules of the tree that a file imports anywhere: at the top, in functions, under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(_tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else str(node.module))
    return found & modules.keys()


def _cycle(root: Path) -> list[str]:
    """Return one import cycle, first and last module the same; empty when there is none."""
    modules = _modules(root)
    graph = {name: _imports(path, modules) - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if circle := visit(other, [*way, name]):
                    return circle
            done.add(name)
        return []

    return next((circle for name in graph if (circle := visit(name, []))), [])


def _docstrings(root: Path) -> Iterator[tuple[str, str]]:
    for name, path in _modules(root).items():
        for node in ast.walk(_tree_of(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{getattr(node, 'lineno', 1)}", ast.get_docstring(node) or ""


def _given(root: Path) -> list[str]:
    return [place for place, text in _docstrings(root) if text.split(" ")[0].rstrip(".:,") in {"Give", "Gives"}]


def _long(root: Path) -> list[str]:
    """Return the modules over 400 lines that give no reason for it in their docstring."""
    found = []
    for name, path in _modules(root).items():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MOST_LINES and REASON not in (ast.get_docstring(_tree_of(path)) or ""):
            found.append(name)
    return found


def _odd_names(root: Path) -> list[str]:
    """Return names of variables, parameters, attributes, functions and classes that are no nouns of the field."""
    found = set()
    for module, path in _modules(root).items():
        for node in ast.walk(_tree_of(path)):
            name = next((value for field in ("id", "arg", "attr", "name") if (value := getattr(node, field, None))), "")
            if isinstance(name, str) and name.strip("_").lower() in ODD_NAMES:
                found.add(f"{module}: {name}")
    return sorted(found)


def _tree(folder: Path, files: Mapping[str, str]) -> Path:
    root = folder / "house"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _cycle(ROOT) == []


def test_a_circle_is_found_also_where_only_the_type_checker_sees_it(tmp_path: Path) -> None:
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.a import A\n"
    files = {
        "__init__.py": "",
        "a.py": "from house.room import b\n",
        "room/__init__.py": "",
        "room/b.py": "def f():\n    import house.c\n",
        "c.py": hidden,
    }
    root = _tree(tmp_path, files)
    assert _cycle(root) == ["house.a", "house.room.b", "house.c", "house.a"]
    assert _cycle(_tree(tmp_path / "mended", {**files, "c.py": ""})) == []


def test_no_docstring_opens_with_give() -> None:
    assert _given(ROOT) == []


def test_a_docstring_that_opens_with_give_is_found(tmp_path: Path) -> None:
    text = 'class A:\n    def f(self):\n        """Give the number."""\n\ndef g():\n    """Given."""\n'
    assert _given(_tree(tmp_path, {"a.py": text})) == ["house.a:2"]


def test_a_module_over_400_lines_has_a_reason() -> None:
    assert _long(ROOT) == []


def test_a_long_module_without_a_reason_is_found(tmp_path: Path) -> None:
    files = {
        "short.py": "x = 1\n" * MOST_LINES,
        "long.py": "x = 1\n" * (MOST_LINES + 1),
        "reasoned.py": f'"""A table.\n\n{REASON}it is one table.\n"""\n' + "x = 1\n" * MOST_LINES,
    }
    assert _long(_tree(tmp_path, files)) == ["house.long"]


def test_names_are_nouns_of_the_field() -> None:
    assert _odd_names(ROOT) == []


def test_a_participle_as_a_name_is_found(tmp_path: Path) -> None:
    text = "class A:\n    def f(self, wanted):\n        self._asked = said = wanted.of\n        return said\n"
    found = _odd_names(_tree(tmp_path, {"a.py": text}))
    assert found == ["house.a: _asked", "house.a: said", "house.a: wanted"]
