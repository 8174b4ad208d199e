"""The parts of a machine: kernels, QEMU, busybox, and the programs that tests use."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from .debian import Unavailable, install, package_tree

# The suites to search, in order, for each kernel series.
KERNEL_SUITES = {
    "6.1": ("bookworm",),
    "6.12": ("bookworm-backports", "trixie"),
    "7.x": ("unstable",),
}
DEFAULT_SERIES = "6.1"
OLD_SUITES = {"5.10": ("bullseye",)}
"""Kernels whose dumps are read, and on which pykexec itself is not tried."""
SUITES = {**OLD_SUITES, **KERNEL_SUITES}
TOOLS_SUITE = "bookworm"
# Program -> its package. Any other program comes from this computer's PATH.
PROGRAM_PACKAGES = {
    "kexec": "kexec-tools",
    "vmcore-dmesg": "kexec-tools",
    "makedumpfile": "makedumpfile",
    "makedumpfile-R.pl": "makedumpfile",
    "crash": "crash",
    "qemu-aarch64-static": "qemu-user-static",
}


ARM64_PACKAGES = {"6.1": "linux-image-cloud-arm64", "16k": "linux-image-arm64-16k"}
"""The package of a series for arm64 that is not called linux-image-cloud-arm64."""
ARM64_SUITES = {**KERNEL_SUITES, "16k": ("unstable", "trixie")}
"""With a series whose pages have 16 KiB."""


@dataclass(frozen=True)
class Kernel:
    """A Debian kernel: its series for tests, its release (`uname -r`), and its files."""

    series: str
    release: str
    image: Path
    modules: Path
    architecture: str = "amd64"


@dataclass(frozen=True)
class Program:
    """A program for the guest, and the folders with the libraries that belong to it."""

    path: Path
    library_folders: tuple[Path, ...] = ()
    root: Path = Path("/")
    """Of the unpacked packages."""


def kernel(series: str) -> Kernel:
    """The kernel of a series in `SUITES`."""
    reasons = []
    for suite in SUITES[series]:
        try:
            tree = package_tree(suite, "linux-image-cloud-amd64", _is_kernel_part)
        except Unavailable as unavailable:
            reasons.append(unavailable.reason)
            continue
        if found := kernel_in(tree, series):
            return found
        reasons.append(f"the kernel packages of {suite} hold no kernel image or no modules")
    raise Unavailable(f"no kernel {series}: {'; '.join(reasons)}")


def kernel_i386(flavour: str = "686-pae") -> Kernel:
    """A 32-bit kernel of the default series; "686" is for processors without PAE."""
    suite, package = KERNEL_SUITES[DEFAULT_SERIES][0], f"linux-image-{flavour}"
    tree = package_tree(suite, package, _is_kernel_part, "i386")
    if found := kernel_in(tree, DEFAULT_SERIES):
        return replace(found, architecture="i386")
    raise Unavailable(f"{package} of {suite} holds no kernel image or no modules")


def kernel_arm64(series: str) -> Kernel:
    """The arm64 kernel of a series in `ARM64_SUITES`."""
    package = ARM64_PACKAGES.get(series, "linux-image-cloud-arm64")
    reasons = []
    for suite in ARM64_SUITES[series]:
        try:
            tree = package_tree(suite, package, _is_kernel_part, "arm64")
        except Unavailable as unavailable:
            reasons.append(unavailable.reason)
            continue
        if found := kernel_in(tree, series):
            return replace(found, architecture="arm64")
        reasons.append(f"{package} of {suite} holds no kernel image or no modules")
    raise Unavailable(f"no arm64 kernel {series}: {'; '.join(reasons)}")


def kernel_in(tree: Path, series: str) -> Kernel | None:
    """The first kernel of unpacked packages."""
    modules = sorted([*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*")])
    images = sorted([*tree.glob("boot/vmlinuz-*"), *(m / "vmlinuz" for m in modules)])
    images = [image for image in images if image.exists()]
    return Kernel(series, modules[0].name, images[0], modules[0]) if images and modules else None


def _is_kernel_part(package: str) -> bool:
    return package.startswith(("linux-image-", "linux-binary-", "linux-modules-"))


def debug_symbols(kernel: Kernel) -> Path:
    """The vmlinux of a kernel with DWARF; a large package (280 MB for 6.1)."""
    package = f"linux-image-{kernel.release}-dbg"
    suites = ARM64_SUITES if kernel.architecture == "arm64" else SUITES
    reasons = []
    for suite in suites[kernel.series]:
        try:
            tree = package_tree(suite, package, architecture=kernel.architecture)
        except Unavailable as unavailable:
            reasons.append(unavailable.reason)
            continue
        path = tree / "usr/lib/debug/boot" / f"vmlinux-{kernel.release}"
        if path.exists():
            return path
        reasons.append(f"{package} of {suite} holds no {path.name}")
    raise Unavailable(f"no debug symbols: {'; '.join(reasons)}")


def qemu(name: str = "qemu-system-x86_64", package: str = "qemu-system-x86") -> str:
    """The path of QEMU, whose package is installed if it is missing and that is permitted."""
    if platform.machine() != "x86_64":
        # A guest runs this computer's Python, or byte code and packages that it prepared.
        raise Unavailable(f"the guests need a computer of x86_64, this is {platform.machine()}")
    if not shutil.which(name):
        install(package)
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not on PATH, although its package is installed")
    return found


def busybox(architecture: str = "amd64") -> Path:
    """A statically linked busybox."""
    tree = package_tree(TOOLS_SUITE, "busybox-static", architecture=architecture)
    for path in (tree / "bin/busybox", tree / "usr/bin/busybox"):
        if path.exists():
            return path
    raise Unavailable("the package busybox-static holds no busybox")


def debian_python(architecture: str) -> Path:
    """The folder with Debian's Python for another architecture, and its libraries."""
    return package_tree(TOOLS_SUITE, "python3", _is_python_part, architecture)


def python_system(version: str, architecture: str) -> Path:
    """The folder with Python and everything that it depends on, unpacked as `rehearse` needs it."""
    return package_tree(TOOLS_SUITE, f"python{version}", lambda _: True, architecture)


def _is_python_part(package: str) -> bool:
    libraries = (
        "libbz2",
        "libc6",
        "libexpat1",
        "libffi",
        "libgcc-s1",
        "liblzma",
        "libssl",
        "zlib1g",
    )
    return package.startswith(("python3", "libpython3", *libraries))


def efi_firmware_arm64() -> Path:
    """EDK2 for the machine `virt`."""
    path = package_tree(TOOLS_SUITE, "qemu-efi-aarch64") / "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
    if not path.exists():
        raise Unavailable("the package qemu-efi-aarch64 holds no QEMU_EFI.fd")
    return path


def efi_firmware() -> Path:
    """OVMF, to boot a machine through EFI."""
    path = package_tree(TOOLS_SUITE, "ovmf") / "usr/share/ovmf/OVMF.fd"
    if not path.exists():
        raise Unavailable("the package ovmf holds no OVMF.fd")
    return path


def command(found: Program, architecture: str = "amd64") -> list[str | Path]:
    """The words that run a program on this computer with its own libraries: for arm64 in QEMU's
    emulation of a process."""
    folders = ":".join(str(folder) for folder in found.library_folders)
    if architecture == "amd64":
        return ["env", f"LD_LIBRARY_PATH={folders}", found.path]
    emulator = program("qemu-aarch64-static").path
    loader = next(found.root.rglob("ld-linux-aarch64.so.1"))
    return [emulator, loader, "--library-path", folders, found.path]


def program(name: str, architecture: str = "amd64") -> Program:
    """A program by its name, or by its path on this computer."""
    if name not in PROGRAM_PACKAGES:
        found = shutil.which(name)
        if found is None:
            raise Unavailable(f"no program {name} on this computer")
        return Program(Path(found))
    follow = _is_library if architecture == "amd64" else _is_any_library
    tree = package_tree(TOOLS_SUITE, PROGRAM_PACKAGES[name], follow, architecture)
    for folder in ("sbin", "bin", "usr/sbin", "usr/bin"):
        if (tree / folder / name).exists():
            libraries = tuple(sorted({p.parent for p in tree.rglob("*.so*") if "lib" in p.parts}))
            return Program(tree / folder / name, libraries, tree)
    raise Unavailable(f"the package {PROGRAM_PACKAGES[name]} holds no {name}")


def _is_any_library(package: str) -> bool:
    return package.startswith(("lib", "zlib"))


def _is_library(package: str) -> bool:
    # The C library is that of this computer: Python and the programs share it in the guest.
    return package.startswith("lib") and not package.startswith(("libc6", "libgcc", "libperl"))
