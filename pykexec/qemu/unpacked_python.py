"""The Python of an unpacked system, usually for another architecture.

Nothing of it runs here: its modules are those that this Python, of the same version, imports, and
its libraries are found by what ELF files ask for (gABI, "Dynamic Section").
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE
from elftools.elf.segments import InterpSegment

from pykexec.images.elf_file import FAULTS
from pykexec.qemu.python import NoPython

if TYPE_CHECKING:
    from pykexec.arch import Arch

FOLDERS = ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "lib", "lib64", "usr/lib", "usr/lib64")
"""Of libraries, in the order of the search."""
VERSION = sysconfig.get_python_version()
RELEASES = {"3.11": " (Debian 12)", "3.12": " (Ubuntu 24.04)", "3.13": " (Debian 13)"}
"""Systems by the version of their Python. The guests run byte code, which is of one version."""
OTHERS = frozenset({"site-packages", "dist-packages"})
"""Folders below the standard library that have other packages."""
OF_ONE_BUILD = "_sysconfigdata_"
"""A module whose name differs between architectures, and that a guest does not need."""


class UnpackedPython:
    """The Python below a folder. Raises NoPython if there is none of this version and
    architecture."""

    def __init__(self, folder: str | os.PathLike[str], arch: Arch) -> None:
        self.root = Path(os.path.realpath(folder))
        self.given, self.arch = folder, arch
        self.program = Path(f"/usr/bin/python{VERSION}")
        self.library = f"/usr/lib/python{VERSION}"
        program = self._file(self.program)
        if program is None:
            found = sorted(path.name for path in self.root.glob("usr/bin/python3.*[0-9]"))
            instead = f", only {', '.join(found)}" if found else ""
            raise NoPython(
                f"{folder}: no {str(self.program)[1:]}{instead}",
                hint=f"use an unpacked system with Python {VERSION}, which runs pykexec here"
                + RELEASES.get(VERSION, "")
                + (f", or run pykexec with {found[-1]}" if found else ""),
            )
        if self._elf(program)[0] != arch.elf_machine:
            raise NoPython(
                f"{folder}: its Python is for another architecture than the kernel ({arch.name})",
                hint=f"use an unpacked system of {arch.name}",
            )

    def __str__(self) -> str:
        return f"the Python in {self.given}"

    def here(self, place: Path) -> Path:
        return self._file(place) or self.root / str(place)[1:]

    def file_of(self, name: str, file: str) -> Path | None:
        """A module of other packages is that of this Python, unless it is compiled."""
        path, standard = Path(file), Path(sysconfig.get_path("stdlib"))
        if not file or path.suffix != ".py":
            return next(self.root.glob(f"{self.library[1:]}/lib-dynload/{name}.*.so"), None)
        if not path.is_relative_to(standard) or OTHERS & set(path.parts):
            return path
        found = self._file(Path(self.library) / path.relative_to(standard))
        if found is None and not name.startswith(OF_ONE_BUILD):
            raise NoPython(f"{self} has no module {name}")
        return found

    def libraries(self, natives: Sequence[Path]) -> tuple[list[Path], list[str]]:
        found: dict[str, Path] = {}
        missing: set[str] = set()
        waiting = list(natives)
        while waiting:
            for name in self._elf(waiting.pop())[1]:
                if name in found or name in missing:
                    continue
                place = Path(name) if name.startswith("/") else self._library(name)
                file = self._file(place) if place else None
                if place is None or file is None:
                    missing.add(name)
                else:
                    found[name] = place
                    waiting.append(file)
        return sorted(found.values()), sorted(missing)

    def _library(self, name: str) -> Path | None:
        for folder in self._folders:
            if (folder / name).exists():
                return Path("/") / folder.relative_to(self.root) / name
        return None

    @cached_property
    def _folders(self) -> list[Path]:
        return [path for pattern in FOLDERS for path in sorted(self.root.glob(pattern))]

    def _file(self, place: Path) -> Path | None:
        """A file for a place; None if it does not exist, or if a link leads out of the folder."""
        path = Path(os.path.realpath(self.root / str(place)[1:]))
        return path if path.is_file() and path.is_relative_to(self.root) else None

    def _elf(self, path: Path) -> tuple[int, list[str]]:
        """The machine of an ELF file, and the files that it asks for. Raises NoPython."""
        try:
            with open(path, "rb") as file:
                elf = ELFFile(file)
                return ENUM_E_MACHINE.get(elf["e_machine"], 0), list(_needed(elf))
        except (ELFError, ConstructError, *FAULTS) as error:
            why = str(error) or type(error).__name__
            raise NoPython(f"{path}: its ELF headers cannot be read: {why}") from error


def _needed(elf: ELFFile) -> Iterator[str]:
    """The interpreter, as a path, and the names of libraries."""
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            yield segment.get_interp_name()
        if isinstance(segment, DynamicSegment):
            yield from (tag.needed for tag in segment.iter_tags("DT_NEEDED"))  # type: ignore[attr-defined]
