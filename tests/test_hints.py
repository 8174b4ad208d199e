"""Every error says what would help: the code that raises it gives a hint, or its class has one.
Checked in the source, so that no new error is forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.test_layers import PACKAGE, layer, modules

LAYERS = {
    *("memory", "machine", "images", "crash", "placement", "host"),
    *("documents", "dump", "backends", "flows"),
}
"""The layers that check user input. Errors of the command line itself point to --help."""
SIMULATED = PACKAGE / "backends" / "simulated"
"""Reports what a kernel would, which gives no hints."""
SYSTEM = "the system's own words say what it is"
OURS = "no input leads there: a fault of this program"
WITHOUT = {
    ("images/contents.py", "OpenFile.__init__"): SYSTEM,
    ("images/contents.py", "OpenFile.read_into"): SYSTEM,
    ("flows/inspect.py", "extract_vmlinux"): SYSTEM,
    ("host/captured.py", "write_capture"): SYSTEM,
    ("host/kcore.py", "refusal"): SYSTEM,
    ("memory/ranges.py", "PhysRange.__post_init__"): OURS,
    ("placement/bind.py", "bind"): OURS,
    ("placement/panic_modes.py", "armed_table"): OURS,
}


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def has_hint(call: ast.Call) -> bool:
    """A hint that is passed on (**more) counts."""
    return any(item.arg in ("hint", None) for item in call.keywords)


def classes() -> dict[str, ast.ClassDef]:
    """The classes of the whole package, by name; names of errors are unique."""
    trees = (ast.parse(path.read_text()) for path in modules())
    return {
        node.name: node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def errors() -> dict[str, bool]:
    """Every subclass of KexecError, and whether its instances always have a hint."""
    known = classes()
    found = {"KexecError": False}
    grown = True
    while grown:
        new = {
            name: gives_hint(node) or any(found.get(name_of(base)) for base in node.bases)
            for name, node in known.items()
            if name not in found and any(name_of(base) in found for base in node.bases)
        }
        found |= new
        grown = bool(new)
    return found


def gives_hint(node: ast.ClassDef) -> bool:
    """By `usual_hint`, or in its own __init__."""
    for item in node.body:
        if isinstance(item, ast.Assign) and name_of(item.targets[0]) == "usual_hint":
            return True
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return any(isinstance(inner, ast.Call) and has_hint(inner) for inner in ast.walk(item))
    return False


def calls(node: ast.AST, inside: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module, with the function that contains it."""
    for child in ast.iter_child_nodes(node):
        where = inside
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            where = (*inside, child.name)
        if isinstance(child, ast.Call):
            yield ".".join(where), child
        yield from calls(child, where)


def silent() -> dict[tuple[str, str], str]:
    """(module, function) of every error without a hint, and the line."""
    known = errors()
    found = {}
    for path in modules():
        if layer(path) not in LAYERS or SIMULATED in path.parents:
            continue
        for where, call in calls(ast.parse(path.read_text())):
            if known.get(name_of(call.func)) is False and not has_hint(call):
                module = path.relative_to(PACKAGE).as_posix()
                found[module, where] = f"{module}:{call.lineno}: {ast.unparse(call)}"
    return found


def test_every_refusal_has_a_hint() -> None:
    found = silent()
    assert not [line for where, line in found.items() if where not in WITHOUT]
    assert found.keys() >= WITHOUT.keys(), "what has a hint by now needs no exception"


def test_the_walk_sees_what_there_is() -> None:
    known = errors()
    assert len(known) > 40
    assert known["NotADump"]
    assert known["NoHole"]
    assert not known["NotAnImage"]
