"""The kernel module of module/, built by DKMS and by `pykexec region build` in a Debian tree with
the headers of a guest's kernel and the compiler that built it. For arm64, where the compiler is
emulated, that takes minutes; most tests use a module that is cross-compiled in such a tree.

The trees come from Debian's archive by package name, and are cached; building requires root
(chroot), like `system.py`. The test is skipped, with the reason, if something is not available.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pykexec.host import module_build

from .chroot import chroot
from .debian import Unavailable, cache_folder, locked, package_tree, sh, subfolder, unpack_resolved
from .product import site
from .supplies import ARM64_SUITES, KERNEL_SUITES, Kernel
from .system import settle_tools

SOURCE = Path(__file__).parents[2] / "module"
NAME, VERSION = "pykexec-region", "0.1"
FILE = "pykexec_region.ko"
INSTALLED = f"updates/dkms/{FILE}"
"""The path below /lib/modules/RELEASE where DKMS puts it."""
TOOLS = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils"),
    *("findutils", "grep", "gzip", "hostname", "libc-bin", "mawk", "perl-base", "sed", "tar"),
    *("mount", "util-linux", "kmod", "dkms", "pahole", "libelf1", "python3"),
)
"""libelf1 is for objtool, pahole for kernels whose headers have BTF, python3 for pykexec."""
COMPILER_SUITES = {"bookworm-backports": "bookworm"}
"""A suite with kernels, but without their compiler: the suite with the compiler."""
FORMAT = "2"  # change it if the same packages give another tree


@dataclass(frozen=True)
class Built:
    """The modules built by DKMS and by `region build`, and the latter's output
    (pykexec.region-build/1)."""

    folder: Path

    @property
    def by_dkms(self) -> Path:
        return self.folder / FILE

    @property
    def by_verb(self) -> Path:
        return self.folder / f"verb-{FILE}"

    @property
    def report(self) -> Path:
        return self.folder / "report.json"


def built_modules(kernel: Kernel) -> Built:
    """For this kernel, rebuilt if the source or the build tools have changed."""
    digest = hashlib.sha256(FORMAT.encode())
    for path in (*sorted(SOURCE.iterdir()), Path(module_build.__file__)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = cache_folder() / "modules" / f"{kernel.release}-{digest.hexdigest()[:24]}"
    with locked("modules"):
        if target.exists():
            return Built(target)
        suite, headers = headers_of(kernel)
        tools = COMPILER_SUITES.get(suite, suite)
        tree = tool_tree(tools, compiler_of(headers), kernel.architecture)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            root = temporary / "root"
            prepare(root, tree, headers, kernel.release)
            built = Built(temporary)
            shutil.copy(build_by_dkms(root, kernel.release), built.by_dkms)
            shutil.copy(build_by_verb(root, kernel.release, built.report), built.by_verb)
            shutil.rmtree(root)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return Built(target)


def cross_built_module(kernel: Kernel) -> Path:
    """The module for an arm64 kernel, rebuilt if its source has changed: the programs of the
    headers package run on this computer, so these come from the package for amd64."""
    digest = hashlib.sha256(FORMAT.encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = cache_folder() / "modules" / f"{kernel.release}-{digest.hexdigest()[:24]}"
    with locked("modules"):
        if target.exists():
            return target / FILE
        suite, headers = headers_of(kernel)
        compiler = f"{compiler_of(headers)}-aarch64-linux-gnu"
        tree = tool_tree(COMPILER_SUITES.get(suite, suite), compiler)
        (scripts,) = headers.glob("usr/src/*arm64*/scripts")
        programs = package_tree(suite, scripts.readlink().parent.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            root = temporary / "root"
            prepare(root, tree, headers, kernel.release)
            sh("cp", "-a", programs / "usr", root, why="no room for a Debian tree")
            cross_build(root, kernel.release)
            shutil.copy(root / "usr/src" / f"{NAME}-{VERSION}" / FILE, temporary / FILE)
            shutil.rmtree(root)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target / FILE


def cross_build(root: Path, release: str) -> None:
    words = ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-")
    script = (
        f"make -C /usr/src/{NAME}-{VERSION} KDIR=/usr/lib/modules/{release}/build {' '.join(words)}"
    )
    inside(root, script, f"no cross build for {release}")


def headers_of(kernel: Kernel) -> tuple[str, Path]:
    """The suite and the unpacked headers of exactly this release."""
    reasons = []
    suites = ARM64_SUITES if kernel.architecture == "arm64" else KERNEL_SUITES
    for suite in suites[kernel.series]:
        package = f"linux-headers-{kernel.release}"
        try:
            return suite, package_tree(suite, package, _is_headers_part, kernel.architecture)
        except Unavailable as unavailable:
            reasons.append(unavailable.reason)
    raise Unavailable(f"no headers of {kernel.release}: {'; '.join(reasons)}")


def _is_headers_part(package: str) -> bool:
    return package.startswith(("linux-headers-", "linux-kbuild-"))


def compiler_of(headers: Path) -> str:
    """The package of the compiler that built the kernel, e.g. gcc-12."""
    for config in headers.glob("usr/src/*/.config"):
        text = config.read_text(errors="replace")
        if found := re.search(r'^CONFIG_CC_VERSION_TEXT="\S*?(gcc-\d+) ', text, re.MULTILINE):
            return found[1]
    raise Unavailable("the headers do not name the compiler")


def tool_tree(suite: str, compiler: str, architecture: str = "amd64") -> Path:
    """A Debian tree with DKMS and a compiler; built once, and kept in the cache."""
    folder = subfolder(suite, architecture)
    target = cache_folder() / "systems" / f"dkms-{folder}-{compiler}-{FORMAT}"
    with locked("systems"):
        if target.is_dir():
            return target
        if os.geteuid() != 0:
            raise Unavailable("building a kernel module in a Debian tree takes root (chroot)")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            temporary.chmod(0o755)
            unpack_resolved(suite, (*TOOLS, compiler), temporary, architecture)
            settle_tools(temporary)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target


def prepare(root: Path, tree: Path, headers: Path, release: str) -> None:
    """A copy of the tree with headers, the module's source and pykexec, as packages would install
    them."""
    sh("cp", "-a", tree, root, why="no room for a Debian tree")
    for folder in ("src", "lib"):
        shutil.copytree(
            headers / "usr" / folder, root / "usr" / folder, symlinks=True, dirs_exist_ok=True
        )
    (source,) = (path.parent for path in headers.glob("usr/src/*/.config"))
    for name in {release, os.uname().release}:  # the second is that of the host's kernel
        modules = root / "usr/lib/modules" / name
        modules.mkdir(parents=True, exist_ok=True)
        build_link = modules / "build"
        build_link.unlink(missing_ok=True)
        build_link.symlink_to(f"/usr/src/{source.name}")
    shutil.copytree(SOURCE, root / "usr/src" / f"{NAME}-{VERSION}")
    for path in site():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        (root / "site").mkdir(exist_ok=True)
        copy(path, root / "site" / path.name)


def inside(root: Path, script: str, why: str) -> str:
    """The output of a script that runs in the tree, with a separate /proc."""
    script = f"mount -t proc proc /proc &&\n{script}"
    words = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "PYTHONPATH=/site")
    return sh(*chroot(root), "/usr/bin/env", "-i", *words, "/bin/sh", "-c", script, why=why)


def build_by_dkms(root: Path, release: str) -> Path:
    """The file that DKMS installs."""
    words = ("-m", NAME, "-v", VERSION, "-k", release)
    script = (
        f"dkms add -m {NAME} -v {VERSION} &&\n"
        f"{{ dkms build {' '.join(words)} || {{ cat /var/lib/dkms/{NAME}/{VERSION}/build/make.log"
        " >&2; exit 1; }; } &&\n"
        f"dkms install {' '.join(words)}"
    )
    inside(root, script, f"DKMS does not build for {release}")
    found = sorted((root / "usr/lib/modules" / release).rglob(f"{FILE}*"))
    if not found:
        raise Unavailable(f"DKMS has built no {FILE}")
    return found[0]


def build_by_verb(root: Path, release: str, report: Path) -> Path:
    """The file that `region build` installs for the kernel that it sees as running; it finds the
    source in the place of DKMS."""
    shown = inside(root, "python3 -m pykexec region build --json", f"no region build for {release}")
    report.write_text(shown)
    return root / "usr/lib/modules" / os.uname().release / "updates" / FILE


def region_files(kernel: Kernel) -> dict[str, Path]:
    """The module at its installed place in a guest."""
    arm64 = kernel.architecture == "arm64"
    built = cross_built_module(kernel) if arm64 else built_modules(kernel).by_dkms
    return {f"/lib/modules/{kernel.release}/{INSTALLED}": built}
