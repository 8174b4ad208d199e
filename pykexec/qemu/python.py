"""This Python as a file tree for a guest: the interpreter, the requested modules and their imports,
as byte code that is never checked against its source (PEP 552), and the shared libraries of all of
these."""

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

from pykexec.abi.elf import EHDR, ELFCLASS64, ELFMAG, PHDR
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


def interpreter() -> Path:
    """The program itself, not the link of a virtual environment."""
    path = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
    return path if path.exists() else Path(os.path.realpath(sys.executable))


def python_tree(modules: Sequence[str]) -> tuple[Tree, str]:
    """Everything in the folder of the standard library, and its $LD_LIBRARY_PATH. Raises
    NoPython."""
    tree = Tree()
    library = sysconfig.get_path("stdlib")
    tree.folder(f"{library}/lib-dynload")  # getpath.py recognizes a library by it
    native = [interpreter()]
    with _unpacked(sys.path) as path:
        for name, file in _imported(modules, path).items():
            place = f"{library}/{name.replace('.', '/')}"
            if os.path.basename(file) == "__init__.py":
                tree.write(f"{place}/__init__.pyc", code(name, file))
                for data in Path(file).parent.glob("*.bin"):  # package data, such as the stub
                    tree.write(f"{place}/{data.name}", data.read_bytes())
            elif file.endswith(".py"):
                tree.write(f"{place}.pyc", code(name, file))
            else:
                native.append(Path(file))
                tree.write(f"{place}.so", loadable(Path(file).read_bytes()))
    tree.write(str(interpreter()), loadable(interpreter().read_bytes()), 0o755)
    libraries, missing = shared_libraries(native)
    if missing:
        raise NoPython(f"this Python lacks libraries: {', '.join(missing)}")
    for library_file in libraries:
        tree.write(str(library_file), loadable(library_file.read_bytes()), 0o755)
    return tree, ":".join(sorted({str(path.parent) for path in libraries}))


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
    """The files of these modules and of everything that they import, by module name."""
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
    _, _, _, _, _, phoff, _, _, _, _, phnum, *_ = EHDR.unpack_from(data)
    table = PHDR.iter_unpack(data[phoff : phoff + phnum * PHDR.size])
    return data[: max(offset + filesz for _, _, offset, _, _, filesz, _, _ in table)]


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
