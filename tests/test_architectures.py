"""What only one architecture has stands in folders of its name; the rest reaches it through the
boot protocol and through the facts of a machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import PACKAGE, layer, modules

FOLDER = re.compile(r"x86(_64)?")
WORD = re.compile(r"boot_params|e820|real[_ -]mode", re.IGNORECASE)
MODULE = re.compile(r"pykexec\.\w+\.(\w+\.)*x86")
LIMITS = {1 << 46, (1 << 46) - 1, 0xA0000, 640 << 10}
"""Addresses that mean something on x86 alone: where destinations and conventional memory end."""
USERS_WORDS = ("cli", "documents")
"""Layers that spell what users ask for and documents show, whatever it belongs to."""
SIMULATED = PACKAGE / "backends" / "simulated"
"""It is a PC with an x86_64 kernel."""
ALLOWED = {
    "arch/__init__.py": "the numbers of each architecture",
    "machine.py": "PcFirmware: the facts of one kind of firmware",
    "dump/architecture.py": "the registry of the architectures whose dumps are read",
    "dump/unwinders.py": "the registry of the unwinders for stacks in dumps",
    "flows/inspect.py": "a zero page is one kind of file that can be inspected",
    "flows/rehearse/qemu.py": "maps an image type to the machine that QEMU emulates for it",
    "host/facts.py": "the one that asks for the facts of each architecture",
    "host/running_kernel.py": "recognises a captured x86 machine by a file that only x86 has",
    "host/kernel_map.py": "/proc/kcore is read for x86_64, where the kernel's text has an address",
    "host/redact.py": "takes the monitor's serial number out of a captured PC",
    "images/foreign.py": "says why an image is for other firmware",
    "images/identify.py": "the registry of image types",
    "images/what_is_it.py": "names what a file is, whatever it is for",
    "placement/boot_protocol.py": "the registry of boot protocols",
    "placement/request.py": "a wish that a user can have",
    "placement/syscall_choice.py": "a wish that a user can have",
    "remedies.py": "a wish that a user can have",
    "purgatory/__init__.py": "offers the names of x86_64's stub with those of every stub",
    "qemu/board.py": "the machines that QEMU emulates, and what reads a dump in each",
}
"""Module to the reason why it may name x86."""


PAGE_NAMES = re.compile(r"PAGE_(SIZE|SHIFT|MASK)|pykexec\.abi\.x86\.page")
ROUNDING = {"align_up", "align_down", "inward", "outward", "is_aligned", "locate_hole", "Space"}
ALLOWED_PAGES: dict[str, str] = {}
"""Module to the reason why it may have a page size of its own."""


def own(path: Path) -> bool:
    return any(FOLDER.fullmatch(part) for part in path.relative_to(PACKAGE).parts)


def neutral() -> list[Path]:
    return [
        path
        for path in modules()
        if not own(path) and layer(path) not in USERS_WORDS and SIMULATED not in path.parents
    ]


def docstrings(tree: ast.AST) -> set[int]:
    """The strings that are statements: they explain."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def names(tree: ast.AST) -> Iterator[str]:
    """Each name, module and string that the program uses."""
    explained = docstrings(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
                yield text
            case ast.FunctionDef(name=text) | ast.ClassDef(name=text) | ast.alias(name=text):
                yield text
            case ast.keyword(arg=str(text)) | ast.ImportFrom(module=str(text)):
                yield text
            case ast.Constant(value=str(text)) if id(node) not in explained:
                yield text


def number(node: ast.AST) -> int | None:
    """The value of a literal, of one shifted by another, or of such a one less one."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.BinOp(op=ast.LShift(), left=ast.Constant(value=int(left)), right=right):
            shift = number(right)
            return None if shift is None or shift > 64 else left << shift
    return None


def x86_in(source: str) -> list[str]:
    tree = ast.parse(source)
    words = {text for text in names(tree) if WORD.search(text) or MODULE.match(text)}
    limits = {hex(found) for node in ast.walk(tree) if (found := number(node)) in LIMITS}
    return sorted(words | limits)


def page_sizes_in(source: str) -> list[str]:
    """The uses of a fixed page size: its name, and 4096 where something is counted or rounded.
    As a limit, or as a named constant of a format, 4096 is just a number."""
    tree = ast.parse(source)
    found = [text for text in names(tree) if PAGE_NAMES.fullmatch(text)]
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=ast.LShift() | ast.RShift(), right=ast.Constant(value=12)):
                used = not isinstance(node.left, ast.Constant)
            case ast.BinOp(op=ast.Mod() | ast.FloorDiv() | ast.Mult(), left=left, right=right):
                used = 4096 in (number(left), number(right))
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in ROUNDING:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                used = 4096 in map(number, values)
            case _:
                used = False
        if used:
            found.append(ast.unparse(node))
    return found


def test_a_page_size_comes_from_the_machine() -> None:
    """From its `Arch`, from the plan, or from the dump: kernels of arm64 have 4, 16 or 64 KiB."""
    paths = [
        path
        for path in modules()
        if not own(path) and SIMULATED not in path.parents and layer(path) != "arch"
    ]
    found = {
        path.relative_to(PACKAGE).as_posix(): uses
        for path in paths
        if (uses := page_sizes_in(path.read_text()))
    }
    assert {module: uses for module, uses in found.items() if module not in ALLOWED_PAGES} == {}
    assert found.keys() == ALLOWED_PAGES.keys(), "what has no page size needs no exception"


@pytest.mark.parametrize(
    "source",
    [
        "from pykexec.abi.x86.page import PAGE_SIZE",
        "kexec.PAGE_SIZE",
        "PAGE_SIZE = 4096",
        "count = size // 4096",
        "addr >> 12",
        "span.inward(0x1000)",
        "align_up(size, 1 << 12)",
        "locate_hole(free, size, align=4096)",
    ],
)
def test_a_page_size_is_found(source: str) -> None:
    assert page_sizes_in(source)


@pytest.mark.parametrize(
    "source", ["text(root, path, 4096)", "HUGE_PAGE_SIZE", "BLOCK = 4096", "1 << 12", "n % page"]
)
def test_other_numbers_are_no_page_size(source: str) -> None:
    assert not page_sizes_in(source)


def test_nothing_outside_of_its_folders_names_x86() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): x86_in(path.read_text()) for path in neutral()}
    named = {module: words for module, words in found.items() if words}
    assert {module: words for module, words in named.items() if module not in ALLOWED} == {}
    assert named.keys() == ALLOWED.keys(), "what names x86 no more needs no exception"


def test_nothing_but_the_boot_protocol_imports_x86_in_placement() -> None:
    importing = {
        path.stem
        for path in neutral()
        if layer(path) == "placement"
        and any(MODULE.match(text) for text in names(ast.parse(path.read_text())))
    }
    assert importing == {"boot_protocol"}


@pytest.mark.parametrize(
    "source",
    [
        "machine.boot_params",
        "plan(e820=1)",
        "def real_mode(): ...",
        "raise Bad('the real-mode code')",
        "from pykexec.placement.x86 import layout",
        "from pykexec.placement.x86.layout import MIB",
        "import pykexec.abi.x86.bootparam",
        "END = 1 << 46",
        "LOW = PhysRange(0x1000, 0xA0000)",
    ],
)
def test_what_is_found(source: str) -> None:
    assert x86_in(source)


@pytest.mark.parametrize(
    "source", ['"""boot_params is explained here."""', "# e820", "x = 'x86_64'", "y = 1 << 45"]
)
def test_what_is_no_fault(source: str) -> None:
    assert not x86_in(source)
