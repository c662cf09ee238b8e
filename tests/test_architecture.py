"""The package's files import one another in one direction, also where only types are imported."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fluxforge

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = Path(fluxforge.__file__).parent


def imports(folder: Path) -> dict[str, set[str]]:
    """Return which modules each module of a package names in its imports, wherever they stand."""
    files = {
        ".".join((folder.name, *path.relative_to(folder).with_suffix("").parts)): path
        for path in folder.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= {name if name in modules else str(node.module) for name in names}
        found[module] = named & modules.keys() - {module}
    return found


def check(graph: Mapping[str, set[str]]) -> None:
    TopologicalSorter(graph).prepare()


def test_no_circle_of_imports_between_files() -> None:
    graph = imports(PACKAGE)
    assert len(graph) > 100
    # The root gives names away on demand; nothing below it is read while it is imported.
    check({module: named - {"fluxforge"} for module, named in graph.items()})


def test_a_circle_under_type_checking_is_found(tmp_path: Path) -> None:
    package = tmp_path / "pair"
    package.mkdir()
    (package / "one.py").write_text("from pair.two import Two\n")
    (package / "two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pair import one\n"
    )
    with pytest.raises(CycleError):
        check(imports(package))
