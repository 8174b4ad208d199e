"""A module imports only from its own layer or from one further left."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pykexec

LAYERS = (
    ("errors", "frozen", "remedies"),
    ("syscalls",),
    ("abi",),
    ("arch",),
    ("memory",),
    ("machine",),
    ("images",),
    ("crash",),
    ("purgatory",),
    ("placement",),
    ("documents",),
    ("libc",),
    ("host",),
    ("dump",),
    ("backends",),
    ("qemu",),
    ("flows",),
    ("api", "cli", "vmcore_dmesg", "__main__"),
)
PACKAGE = Path(pykexec.__file__).parent
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The layers of this package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "pykexec":
                names = [f"pykexec.{item.name}" for item in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("pykexec.")}
    return found - {"__version__"}


def test_every_module_has_a_layer() -> None:
    assert {layer(path) for path in modules()} <= set(RANK)


def test_no_import_runs_to_the_right() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules()
        for name in sorted(imports(path))
        if RANK[name] > RANK[layer(path)]
    ]
    assert wrong == []


def name_of(path: Path) -> str:
    """pykexec.cli for pykexec/cli/__init__.py, and so on."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those under TYPE_CHECKING."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not only_for_types(child):
            yield from run_time_nodes(child)


def import_graph() -> dict[str, set[str]]:
    """Each module with the modules that it imports, anywhere in it."""
    paths = {name_of(path): path for path in modules()}
    graph = {}
    for name, path in paths.items():
        named = set()
        for node in run_time_nodes(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {item.name for item in node.names}
            if isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{item.name}" for item in node.names}
                named |= whole & paths.keys() or {node.module}
        graph[name] = named & paths.keys() - {name}
    return graph


def test_no_two_modules_import_each_other() -> None:
    """Nor three in a cycle. A module that imports only removed modules is in no cycle."""
    graph = import_graph()
    while free := {name for name, named in graph.items() if not named & graph.keys()}:
        graph = {name: named for name, named in graph.items() if name not in free}
    assert sorted(graph) == []


def only_in(names: set[str]) -> set[str]:
    """The top-level places whose modules import one of `names`."""
    places = set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import) and names & {i.name.split(".")[0] for i in node.names}:
                places.add(layer(path))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in names:
                places.add(layer(path))
    return places


def test_ctypes_is_only_in_libc() -> None:
    assert only_in({"ctypes"}) <= {"libc"}


def test_mashumaro_is_only_where_documents_become_json() -> None:
    """Its import takes 30 ms, so only modules that read or write documents import it."""
    assert only_in({"mashumaro"}) == {"documents"}


def test_rich_is_only_in_the_cli() -> None:
    assert only_in({"rich"}) <= {"cli"}


def test_no_module_is_longer_than_its_room() -> None:
    long = [
        f"{path.name} {n}" for path in modules() if (n := len(path.read_text().splitlines())) > 500
    ]
    assert long == []


@pytest.mark.parametrize("package", ["dump", "images", "placement"])
def test_a_packages_map_names_each_of_its_modules(package: str) -> None:
    folder = PACKAGE / package
    named = set(re.findall(r"`(\w+)`", (folder / "__init__.py").read_text()))
    assert named == {path.stem for path in folder.rglob("*.py")} - {"__init__"}
