"""The Python that runs the tests, and folders of packages, as file trees for a guest.

Compiling takes long in an emulated guest, so every module has byte code that is never checked
against its source (PEP 552). The standard library is byte code only: a capture kernel has little
memory.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pykexec.qemu.python import OwnPython, loadable

from .initramfs import Tree, cached_part, files_below
from .supplies import debian_python

# Parts of the standard library that tests do not need in the guest.
STDLIB_SKIP = {
    "distutils",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
SITE_SKIP = {"bin", "pip", "setuptools", "wheel"}


def python_part(architecture: str = "amd64") -> bytes:
    """The interpreter, its standard library, and /bin/python3; Debian's for another
    architecture."""
    if architecture != "amd64":
        return debian_python_part(architecture)
    program = OwnPython().program
    library = Path(sysconfig.get_path("stdlib"))

    def build() -> Tree:
        tree = Tree()
        extensions = []
        for path in _stdlib_files(library):
            if path.suffix == ".so":
                extensions.append(path)
                tree.write(str(path), loadable(path.read_bytes()), 0o755)
            elif path.suffix == ".py":
                code = byte_code(path.read_bytes(), str(path))
                if code is not None:
                    tree.write(f"{path}c", code)
        tree.copy(program, str(program))
        tree.add_libraries([program, *extensions])
        for name in [name for name in tree.entries if "/libpython" in name]:
            tree.write(name, loadable(tree.entries[name].contents), 0o755)
        tree.link("/bin/python3", str(program))
        return tree

    name = f"python-{platform.python_version()}"
    return cached_part(name, [program, library, *sorted(library.glob("*.py"))], build)


def debian_python_part(architecture: str) -> bytes:
    """From packages. Byte code depends only on the version, not on the architecture."""
    root = debian_python(architecture)
    interpreter = min(root.glob("usr/bin/python3.*"))
    library = root / "usr/lib" / interpreter.name
    same = interpreter.name == f"python{sysconfig.get_python_version()}"

    def build() -> Tree:
        tree = Tree()
        for path in _stdlib_files(library):
            name = f"/{path.relative_to(root)}"
            is_module = same and path.suffix == ".py"
            code = byte_code(path.read_bytes(), name) if is_module else None
            tree.write(f"{name}c" if code else name, code or path.read_bytes())
        for folder in ("lib", "lib/*-linux-gnu", "usr/lib/*-linux-gnu"):
            for path in root.glob(f"{folder}/*.so*"):
                tree.write(f"/{path.relative_to(root)}", path.read_bytes(), 0o755)
        tree.copy(interpreter, f"/usr/bin/{interpreter.name}")
        tree.link("/bin/python3", f"/usr/bin/{interpreter.name}")
        return tree

    name = f"python-{architecture}-{platform.python_version()}"
    return cached_part(name, [interpreter, library, *sorted(library.glob("*.py"))], build)


def _stdlib_files(library: Path) -> Iterator[Path]:
    for path in files_below(library):
        names = path.relative_to(library).parts
        if STDLIB_SKIP & set(names) or names[0].startswith("config-"):
            continue
        if not path.name.startswith(("_test", "_tkinter", "_ctypes_test")):
            yield path


def site_part(folder: Path) -> bytes:
    """A folder for /site: a package by its name, or everything in a site folder. A module of one
    file is directly in /site."""
    folder = folder.resolve()
    if folder.is_file():
        return module_part(folder)
    sources = [
        path
        for path in files_below(folder)
        if path.relative_to(folder).parts[0] not in SITE_SKIP or (folder / "__init__.py").exists()
    ]
    top = f"/site/{folder.name}" if (folder / "__init__.py").exists() else "/site"

    def build() -> Tree:
        tree = Tree()
        for path in sources:
            tree.copy(path, f"{top}/{path.relative_to(folder)}")
        extensions = [path for path in sources if path.suffix == ".so"]
        if extensions:
            tree.add_libraries(extensions)
        compile_tree(tree)
        return tree

    return cached_part(f"site-{folder.name}-{platform.python_version()}", sources, build)


def module_part(path: Path) -> bytes:
    def build() -> Tree:
        tree = Tree()
        tree.copy(path, f"/site/{path.name}")
        compile_tree(tree)
        return tree

    return cached_part(f"site-{path.stem}-{platform.python_version()}", [path], build)


def compile_tree(tree: Tree) -> None:
    """Add byte code next to the Python modules of a tree."""
    for name, entry in list(tree.entries.items()):
        if not name.endswith(".py"):
            continue
        code = byte_code(entry.contents, f"/{name}")
        if code is not None:
            folder, module = os.path.split(name)
            tag = sys.implementation.cache_tag
            tree.write(f"{folder}/__pycache__/{module[:-3]}.{tag}.pyc", code)


def byte_code(source: bytes, name: str) -> bytes | None:
    """An unchecked .pyc; empty for a source that is not for this Python."""
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    flags = (0b01).to_bytes(4, "little")  # hash-based, not checked
    digest = importlib.util.source_hash(source)
    return importlib.util.MAGIC_NUMBER + flags + digest + marshal.dumps(code)
