"""A Python as a file tree for a guest: the interpreter, the requested modules and their imports,
as byte code that is never checked against its source (PEP 552), and the shared libraries of all of
these. It is this Python, or that of an unpacked system."""

from __future__ import annotations

import json
import marshal
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Protocol

from pykexec.abi.elf import ELFCLASS64, ELFMAG, PHDR, file_header
from pykexec.crash.elfcorehdr import ProgramHeader
from pykexec.errors import NotSupported
from pykexec.qemu.newc import Tree

ELF64 = ELFMAG + bytes((ELFCLASS64,))
UNCHECKED = (0b01).to_bytes(4, "little") + bytes(8)
"""Flags of a .pyc: hash-based, and not checked against the source."""


class NoPython(NotSupported):
    """This Python cannot be put into a guest."""

    code = "no-guest-python"


class CodeReader(SourceFileLoader):
    """Uses existing byte code, and writes none."""

    def set_data(self, path: str, data: object, *, _mode: int = 0) -> None:
        """Not here."""


class Python(Protocol):
    """Where the parts of a guest's Python are."""

    @property
    def program(self) -> Path:
        """The interpreter's place in the guest, without links."""

    @property
    def library(self) -> str:
        """The folder of the standard library in the guest."""

    def file_of(self, name: str, file: str) -> Path | None:
        """The file on this computer of a module, which this Python imports from `file`, "" for one
        that is built in; None if the guest's Python has it built in or does without it."""

    def here(self, place: Path) -> Path:
        """The file on this computer for a place in the guest."""

    def libraries(self, natives: Sequence[Path]) -> tuple[list[Path], list[str]]:
        """Places in the guest of the shared libraries that these files need, and the names of those
        that were not found."""


class OwnPython:
    """The Python that runs this program."""

    def __str__(self) -> str:
        return "this Python"

    @property
    def program(self) -> Path:
        path = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
        return path if path.exists() else Path(os.path.realpath(sys.executable))

    @property
    def library(self) -> str:
        return sysconfig.get_path("stdlib")

    def file_of(self, name: str, file: str) -> Path | None:
        return Path(file) if file else None

    def here(self, place: Path) -> Path:
        return place

    def libraries(self, natives: Sequence[Path]) -> tuple[list[Path], list[str]]:
        return shared_libraries(natives)


def python_tree(modules: Sequence[str], python: Python | None = None) -> tuple[Tree, str]:
    """Everything in the folder of the standard library, and its $LD_LIBRARY_PATH. Raises
    NoPython."""
    tree, chosen = Tree(), python or OwnPython()
    library, program = chosen.library, chosen.program
    tree.folder(f"{library}/lib-dynload")  # getpath.py recognizes a library by it
    native = [chosen.here(program)]
    with _unpacked(sys.path) as path:
        for name, imported in _imported(modules, path).items():
            file = chosen.file_of(name, imported)
            place = f"{library}/{name.replace('.', '/')}"
            if file is None:
                continue
            if file.name == "__init__.py":
                tree.write(f"{place}/__init__.pyc", code(name, str(file)))
                for data in file.parent.glob("*.bin"):  # package data, such as the stub
                    tree.write(f"{place}/{data.name}", data.read_bytes())
            elif file.suffix == ".py":
                tree.write(f"{place}.pyc", code(name, str(file)))
            else:
                native.append(file)
                tree.write(f"{place}.so", loadable(file.read_bytes()))
    tree.write(str(program), loadable(chosen.here(program).read_bytes()), 0o755)
    libraries, missing = chosen.libraries(native)
    if missing:
        raise NoPython(f"{chosen} lacks libraries: {', '.join(missing)}")
    for item in libraries:
        tree.write(str(item), loadable(chosen.here(item).read_bytes()), 0o755)
    return tree, ":".join(sorted({str(item.parent) for item in libraries}))


@contextmanager
def _unpacked(path: Sequence[str]) -> Iterator[list[str]]:
    """The search path with folders instead of archives, such as the single file that
    scripts/build-pyz makes: a guest gets files."""
    with tempfile.TemporaryDirectory(prefix="pykexec-") as folder:
        found = []
        for number, item in enumerate(map(os.path.abspath, path)):
            if os.path.isfile(item) and zipfile.is_zipfile(item):
                place = f"{folder}/{number}"
                with zipfile.ZipFile(item) as archive:
                    archive.extractall(place)
                item = place  # noqa: PLW2901
            found.append(item)
        yield found


def _imported(modules: Sequence[str], path: Sequence[str]) -> dict[str, str]:
    """The files of these modules and of everything that they import, by module name; "" for one
    that is built in."""
    here = Path(__file__).with_name("imported.py")
    places = (here, *(Path(folder) / "pykexec/qemu/imported.py" for folder in path))
    program = str(next((place for place in places if place.is_file()), here))
    words = [sys.executable, "-I", "-B", program, json.dumps(list(path)), *modules]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        output = done.stderr.strip().rpartition("\n")[2]
        raise NoPython(f"this Python does not import what a guest needs: {output}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def code(name: str, file: str) -> bytes:
    """An unchecked .pyc of a module. Raises NoPython for a module that is not a file."""
    if not os.path.isfile(file):
        raise NoPython(f"{file}: not a separate file", hint="unpack pykexec and this Python")
    return MAGIC_NUMBER + UNCHECKED + marshal.dumps(CodeReader(name, file).get_code(name))


def loadable(data: bytes) -> bytes:
    """A 64-bit ELF file up to the end of its last segment, the part that runs: most of a library
    can be debug information. Anything else is returned unchanged."""
    if not data.startswith(ELF64):
        return data
    head = file_header(data)
    table = data[head.e_phoff : head.e_phoff + head.e_phnum * PHDR.size]
    headers = (ProgramHeader(*entry) for entry in PHDR.iter_unpack(table))
    return data[: max(header.p_offset + header.p_filesz for header in headers)]


def shared_libraries(
    sources: Sequence[Path], folders: Sequence[Path] = ()
) -> tuple[list[Path], list[str]]:
    """The libraries that ELF files need, searched in `folders` first, and the names of those that
    were not found. Raises NoPython."""
    environment = {**os.environ, "LC_ALL": "C"}
    if folders:
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, folders))
    words = ["ldd", *map(str, sources)]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
    except OSError as error:
        raise NoPython(f"ldd cannot be run: {error.strerror}", hint="install libc-bin") from error
    missing = sorted(set(re.findall(r"(\S+) => not found", done.stdout)))
    found = sorted(set(re.findall(r"(?m)(/\S+) \(0x", done.stdout)))
    return [Path(path) for path in found], missing
