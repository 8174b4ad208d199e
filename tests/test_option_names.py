"""Code that decides knows no program's options: it gives remedies, and each program words them."""

from __future__ import annotations

import ast
import re

import pytest

from pykexec.cli.kexec8.terms import KEXEC8
from pykexec.cli.terms import PYKEXEC
from pykexec.remedies import (
    API,
    Another,
    Omit,
    Remedy,
    SmallerWindow,
    Unload,
    Use,
    WindowElsewhere,
    WindowOfSize,
    Wish,
    and_also,
    any_of,
    saying,
)
from tests.test_architectures import docstrings
from tests.test_layers import PACKAGE, layer, modules

LAYERS = {"placement", "images", "crash", "memory", "machine", "backends", "host", "remedies"}
OPTION = re.compile(r"(^|[^\w-])--[a-z]")
OF_OTHER_PROGRAMS = {
    "backends/saving/ending.py": "systemctl and sulogin",
    "host/firmware.py": "grubby",
    "remedies.py": "pykexec unload, whichever program loaded",
}


def options_in(source: str) -> list[str]:
    tree = ast.parse(source)
    explained = docstrings(tree)
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in explained
        and OPTION.search(node.value)
    ]


def test_no_option_is_named_where_things_are_decided() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): options_in(path.read_text())
        for path in modules()
        if layer(path) in LAYERS
    }
    named = {module: texts for module, texts in found.items() if texts}
    assert {
        module: texts for module, texts in named.items() if module not in OF_OTHER_PROGRAMS
    } == {}
    assert named.keys() == OF_OTHER_PROGRAMS.keys(), "what names none needs no exception"


@pytest.mark.parametrize("source", ['x = "use --mode"', 'f"{a} (--type)"', "hint='--force'"])
def test_what_is_an_option(source: str) -> None:
    assert options_in(source)


def test_each_program_has_a_word_for_each_wish() -> None:
    assert [wish for wish in Wish if wish not in PYKEXEC or wish not in KEXEC8] == []


@pytest.mark.parametrize(
    ("remedy", "pykexec", "kexec8", "api"),
    [
        (Use(Wish.MODE, "in-place"), "use --mode in-place", "use pykexec load --mode in-place",
         "use mode in-place"),
        (Use(Wish.SYSCALL, "load"), "use --syscall load", "use -c", "use syscall load"),
        (Omit(Wish.TYPE, rest=" to detect it"), "omit --type to detect it",
         "omit --type to detect it", "omit image_type to detect it"),
        (Another("a smaller", Wish.CRASH_SIZE), "use a smaller --crash-size",
         "use a smaller pykexec load --crash-size", "use a smaller crash_size"),
        (SmallerWindow(), "use a smaller window (--crash-size, --mem-max)",
         "use a smaller window (pykexec load --crash-size, --mem-max)",
         "use a smaller window (crash_size, mem_max)"),
        (WindowOfSize(96), "use a window of 96 MiB (--crash-size)",
         "use a window of 96 MiB (pykexec load --crash-size)",
         "use a window of 96 MiB (crash_size)"),
        (WindowElsewhere("outside"), "choose --mem-min and --mem-max outside",
         "choose --mem-min and --mem-max outside", "choose mem_min and mem_max outside"),
        (Unload(True, "kernel"), "run pykexec unload --crash --backend kernel",
         "run pykexec unload --crash --backend kernel",
         "run pykexec unload --crash --backend kernel"),
        (any_of("run as root", Use(Wish.ROOT, "FILE")), "run as root, or use --root FILE",
         "run as root, or use pykexec load --root FILE", "run as root, or use root FILE"),
        (and_also("a", Omit(Wish.DIRECT)), "a; omit pykexec-kexec --args-none",
         "a; omit --args-none", "a; omit direct"),
        (saying("give ", Wish.MEM_MIN, " too"), "give --mem-min too", "give --mem-min too",
         "give mem_min too"),
    ],
)  # fmt: skip
def test_a_remedy_in_each_programs_words(
    remedy: Remedy, pykexec: str, kexec8: str, api: str
) -> None:
    assert (remedy.text(PYKEXEC), remedy.text(KEXEC8)) == (pykexec, kexec8)
    assert str(remedy) == remedy.text(API) == api
