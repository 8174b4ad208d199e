"""File trees for a guest, as newc archives (Documentation/driver-api/early-userspace).

The kernel unpacks consecutive archives, so an initramfs is composed of parts, and each part that
takes time to build is cached.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pykexec.qemu import newc
from pykexec.qemu.python import shared_libraries

from .debian import Unavailable, cache_folder, locked
from .supplies import Kernel, Program, busybox

GUEST = Path(__file__).parent / "guest"
DISK_MODULES = ("virtio_pci", "virtio_blk")
LIBRARY_FOLDER = "/lib/x86_64-linux-gnu"
FORMAT = "2"  # change it if the same sources give another archive
KEEP_DAYS = 14

Contents = bytes | str | Path


class Tree(newc.Tree):
    """A tree with methods for everything that the lab puts into a guest."""

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.folder(os.path.dirname(path.strip("/")))
        self.entries[path.strip("/")] = newc.Entry(stat.S_IFLNK | 0o777, target.encode())

    def copy(self, source: Path, target: str) -> None:
        """Copy a file, or all files below a folder, from this computer."""
        for path in files_below(source):
            name = target if path == source else f"{target}/{path.relative_to(source)}"
            self.write(name, path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)

    def put(self, files: Mapping[str, Contents]) -> None:
        """Add files and folders by their path in the guest; text that starts with #! becomes
        executable."""
        for name, contents in files.items():
            if isinstance(contents, Path):
                self.copy(contents, name)
            else:
                self.write(name, contents, 0o755 if contents[:2] in ("#!", b"#!") else 0o644)

    def add_program(self, program: Program, architecture: str = "amd64") -> None:
        """Add a program to /bin, with the shared libraries that it needs; for another architecture
        with all libraries of its packages."""
        self.copy(program.path, f"/bin/{program.path.name}")
        if architecture != "amd64":
            for folder in program.library_folders:
                for path in folder.glob("*.so*"):
                    self.write(f"/{path.relative_to(program.root)}", path.read_bytes(), 0o755)
        elif program.path.read_bytes().startswith(b"\x7fELF"):
            self.add_libraries([program.path], program.library_folders)

    def add_libraries(self, sources: Sequence[Path], own: Sequence[Path] = ()) -> None:
        """Add the shared libraries that ELF files need; `own` folders have those that are missing
        here."""
        libraries, missing = shared_libraries(sources)
        if missing and own:
            libraries, missing = shared_libraries(sources, own)
        if missing:
            raise Unavailable(f"{sources[0].name} needs {', '.join(missing)}")
        for path in libraries:
            is_own = path.parent in own
            self.copy(path, f"{LIBRARY_FOLDER}/{path.name}" if is_own else str(path))

    def add_modules(self, folder: Path, names: Iterable[str]) -> None:
        """Add kernel modules and their dependencies, listed in loading order for /init."""
        files = {p.name.split(".ko")[0].replace("-", "_"): p for p in folder.rglob("*.ko*")}
        ordered: dict[str, bytes] = {}

        def need(name: str) -> None:
            path = files.get(name.replace("-", "_"))
            if path is None or name in ordered:  # built in, or already there
                return
            contents = path.read_bytes()
            contents = lzma.decompress(contents) if path.suffix == ".xz" else contents
            depends = re.search(rb"\0depends=([^\0]*)\0", contents)
            for other in depends[1].decode().split(",") if depends else ():
                need(other)
            ordered[name] = contents

        for name in names:
            need(name)
        for name, contents in ordered.items():
            self.write(f"/lib/modules/{name}.ko", contents)
        self.write("/etc/modules.list", "".join(f"/lib/modules/{name}.ko\n" for name in ordered))


def files_below(source: Path) -> list[Path]:
    """A file, or the files below a folder, without hidden files and byte code."""
    if not source.is_dir():
        return [source]
    found = []
    for path in sorted(source.rglob("*")):
        names = path.relative_to(source).parts
        hidden = any(name.startswith(".") or name == "__pycache__" for name in names)
        if not hidden and path.is_file():
            found.append(path)
    return found


def cached_part(name: str, sources: Iterable[Path], build: Callable[[], Tree]) -> bytes:
    """The archive of a tree, rebuilt only if its sources changed."""
    digest = hashlib.sha256(f"{FORMAT} {name}\n".encode())
    for path in sources:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    folder = cache_folder() / "parts"
    target = folder / f"{name}-{digest.hexdigest()[:24]}.cpio"
    with locked("parts"):
        if target.exists():
            target.touch()
            return target.read_bytes()
        archive = build().archive()
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.cpio"):
            if old.stat().st_mtime < time.time() - KEEP_DAYS * 86400:
                old.unlink()
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(archive)
        os.replace(file.name, target)
    return archive


def base_part(kernel: Kernel, modules: Sequence[str]) -> bytes:
    """Busybox and its applets, /init and the commands of the lab, and kernel modules."""
    shell, own_shell = busybox(kernel.architecture), busybox()

    def build() -> Tree:
        tree = Tree()
        for name in ("proc", "sys", "dev", "tmp", "run", "root", "boot", "bin", "sbin", "mnt"):
            tree.folder(name)
        tree.copy(shell, "/bin/busybox")
        listed = subprocess.run(
            [str(own_shell), "--list"], capture_output=True, text=True, check=True
        )
        for applet in listed.stdout.split():
            if applet != "busybox":
                tree.link(f"/bin/{applet}", "/bin/busybox")
        tree.write("/init", (GUEST / "init.sh").read_bytes(), 0o755)
        for command in ("host", "copyout", "copyin"):
            tree.write(f"/bin/{command}", (GUEST / f"{command}.sh").read_bytes(), 0o755)
        tree.add_modules(kernel.modules, [*DISK_MODULES, *modules])
        return tree

    scripts = sorted(GUEST.glob("*.sh"))
    name = "-".join(["base", kernel.release, *modules])
    return cached_part(name, [shell, kernel.image, *scripts], build)
