"""Build the module that makes a crash region, against the headers of the running kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pykexec.errors import KexecError, NotPermitted, NotSupported
from pykexec.host.module import NAME, read_module
from pykexec.images.contents import OpenFile
from pykexec.remedies import Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.machine import RegionModule

FILES = (f"{NAME}.c", "Makefile")
SECONDS = 600
LINES = 5
"""The number of last lines of the compiler to quote in an error."""


class NoSource(NotSupported):
    """The module's source is not installed."""

    code = "no-module-source"


class NoHeaders(NotSupported):
    """The kernel headers for building a module are not installed."""

    code = "no-kernel-headers"


class BuildFailed(KexecError):
    """make(1) or the compiler failed."""

    code = "build-failed"


def build(
    source: Path | None = None, headers: Path | None = None, target: Path | None = None
) -> RegionModule:
    """Build in a temporary folder, and install the file atomically as `target`, or where `pykexec
    region make` finds it. Raises NoSource, NoHeaders, BuildFailed, NotPermitted."""
    release = os.uname().release
    modules = Path("/lib/modules") / release
    headers = (headers or modules / "build").absolute()
    if not headers.is_dir():
        raise NoHeaders(
            f"{headers}: no kernel headers found",
            hint=f"install them (Debian: linux-headers-{release}), with make and a compiler",
        )
    found = source or _find_source()
    place = target or modules / "updates" / f"{NAME}.ko"
    with TemporaryDirectory(prefix="pykexec-") as folder:
        for name in FILES:
            copy(found / name, Path(folder) / name)
        run(("make", "-C", folder, f"KDIR={headers}"))
        install(Path(folder) / f"{NAME}.ko", place)
    return read_module(OpenFile(place))


def _find_source() -> Path:
    """Next to the package in a checkout, in share/ of an installation, or in the place of DKMS."""
    package = Path(__file__).resolve().parents[2]
    places = (
        package / "module",
        Path(sys.prefix) / "share/pykexec/module",
        *sorted(Path("/usr/src").glob("pykexec-region-*"), reverse=True),
    )
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return place
    raise NoSource(
        "the module's source is not installed", hint=Use(Wish.SOURCE, "DIR", " to name its folder")
    )


def copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise NoSource(
            f"{source}: {(error.strerror or str(error)).lower()}", hint=f"expected: {FILES[0]}"
        ) from error


def run(command: tuple[str, ...]) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{command[0]}: {error}".lower(), hint="install make and gcc") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise BuildFailed(
            f"make failed: {' / '.join(lines[-LINES:])}",
            hint="install the compiler that the kernel headers require",
        )


def install(built: Path, place: Path) -> None:
    """Install the file completely or not at all."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.copyfile(built, temporary)
        os.replace(temporary, place)
    except OSError as error:
        raise NotPermitted(
            f"{place}: {(error.strerror or str(error)).lower()}",
            hint=any_of("run as root", Use(Wish.OUTPUT, "FILE", " to write it elsewhere")),
        ) from error
