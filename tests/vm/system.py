"""A Debian system on a disk for a kernel to boot: unpacked packages, the effects of their
maintainer scripts, and kdump-tools' own capture initrd.

The disk has the label `debian`; in a guest it is /dev/vdc.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .chroot import inside
from .debian import Unavailable, cache_folder, locked, sh, unpack_resolved
from .initramfs import Tree
from .supplies import TOOLS_SUITE, Kernel

PACKAGES = (
    *("base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils"),
    *("diffutils", "e2fsprogs", "findutils", "grep", "gzip", "hostname", "libc-bin", "login"),
    *("mawk", "mount", "perl-base", "python3", "sed", "systemd-sysv", "tar", "udev", "util-linux"),
    *("busybox", "initramfs-tools", "kdump-tools", "makedumpfile"),
)
LABEL = "debian"
DISK_SIZE = 1 << 30  # bytes, sparse
FORMAT = "3"  # change it if the same packages give another disk
MERGED = ("bin", "sbin", "lib", "lib64")
DEVICES = {"console": (5, 1), "null": (1, 3), "tty": (5, 0), "urandom": (1, 9), "zero": (1, 5)}
CAPTURE = Path(__file__).resolve().parents[2] / "capture"
DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")


@dataclass(frozen=True)
class System:
    """A folder with all files of the system, and the initrd of kdump-tools."""

    root: Path
    initrd: Path

    def disk(
        self,
        folder: Path,
        extra: Tree | None = None,
        prepare: Callable[[Path], object] | None = None,
    ) -> Path:
        """Make an ext4 disk in `folder` for one guest, with further files. `prepare` gets the
        folder that becomes the disk, with all of them."""
        root, disk = folder / "root", folder / "debian.img"
        sh("cp", "-a", self.root, root, why="no room for a disk")
        for name, entry in extra.entries.items() if extra else ():
            put(root / name, entry.mode, entry.contents)
        if prepare:
            prepare(root)
        disk.touch()
        os.truncate(disk, DISK_SIZE)
        words = ("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-d", root, disk)
        sh(*words, why="no ext4 disk")
        shutil.rmtree(root)
        return disk


def put(path: Path, mode: int, contents: bytes) -> None:
    """Add one entry to a tree; existing folders stay unchanged."""
    if stat.S_ISDIR(mode):
        path.mkdir(exist_ok=True)
        return
    path.unlink(missing_ok=True)
    if stat.S_ISLNK(mode):
        path.symlink_to(contents.decode())
        return
    path.write_bytes(contents)
    path.chmod(stat.S_IMODE(mode))


def debian_system(kernel: Kernel) -> System:
    """The system with this kernel's modules; built once, and cached."""
    target = cache_folder() / "systems" / f"{kernel.release}-{FORMAT}"
    initrd = Path("root/var/lib/kdump") / f"initrd.img-{kernel.release}"
    with locked("systems"):
        if target.is_dir():
            return System(target / "root", target / initrd)
        if os.geteuid() != 0:
            raise Unavailable("putting a Debian system together takes root (chroot, mknod)")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            build(kernel, temporary / "root")
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return System(target / "root", target / initrd)


def build(kernel: Kernel, root: Path) -> None:
    """Build the system as a folder."""
    root.mkdir()
    unpack_resolved(TOOLS_SUITE, PACKAGES, root, kernel.architecture)
    settle(root)
    add_kernel(kernel, root)
    capture_initrd(kernel, root)


def settle(root: Path) -> None:
    """Do what maintainer scripts do: the merged /usr, users, alternatives, devices, /etc."""
    settle_tools(root)
    defaults = root / "usr/share/kdump-tools/kdump-tools.conf"
    shutil.copy(defaults, root / "etc/default/kdump-tools")
    (root / "etc/fstab").write_text(f"LABEL={LABEL} / ext4 rw 0 1\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/machine-id").touch()
    inside(root, "/sbin/ldconfig")


def settle_tools(root: Path) -> None:
    """The part that programs need which run in the tree."""
    for name in MERGED:
        usr = root / "usr" / name
        if (root / name).is_dir() and not (root / name).is_symlink():
            shutil.copytree(root / name, usr, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
        usr.mkdir(exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    for name, target in (("sh", "dash"), ("awk", "mawk")):
        link = root / "usr/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for name, numbers in DEVICES.items():
        os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))


def add_kernel(kernel: Kernel, root: Path) -> None:
    """Add its image and modules, in the places of Debian's package."""
    modules = root / "usr/lib/modules" / kernel.release
    shutil.copytree(kernel.modules, modules, symlinks=True)
    names = (f"vmlinuz-{kernel.release}", f"config-{kernel.release}")
    shutil.copy(kernel.image, root / "boot" / names[0])
    config = kernel.image.with_name(names[1])
    if config.exists():  # newer packages lack it
        shutil.copy(config, root / "boot")
    inside(root, "/sbin/depmod", kernel.release)


def capture_initrd(kernel: Kernel, root: Path) -> None:
    """Made by the unchanged hook that kdump-tools installs for new kernels. The modules are given
    here, because by default it selects those for the machine that it runs on."""
    configured = root / "etc/initramfs-tools"
    (configured / "conf.d/modules").write_text("MODULES=list\n")
    (configured / "modules").write_text("".join(f"{name}\n" for name in DISK_MODULES))
    with kernel_config(kernel, root):
        inside(root, "/etc/kernel/postinst.d/kdump-tools", kernel.release)
    # The links that its service makes before it loads.
    for name, target in (("vmlinuz", "/boot/vmlinuz"), ("initrd.img", "initrd.img")):
        (root / "var/lib/kdump" / name).symlink_to(f"{target}-{kernel.release}")


def pykexec_initrd(kernel: Kernel, root: Path) -> Path:
    """Make the initrd of pykexec by the script that is shipped, and give its path."""
    shutil.copytree(CAPTURE, root / "usr/share/pykexec/capture")
    script = "/usr/share/pykexec/capture/make-initrd"
    with kernel_config(kernel, root):
        inside(root, "/usr/bin/env", "PYKEXEC_MODULES=list", script, kernel.release)
    return root / f"var/lib/pykexec/initrd.img-{kernel.release}"


@contextmanager
def kernel_config(kernel: Kernel, root: Path) -> Iterator[None]:
    """mkinitramfs asks it for the compression; newer packages come without."""
    config = root / f"boot/config-{kernel.release}"
    known = config.exists()
    if not known:
        config.write_text("CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n")
    yield
    if not known:
        config.unlink()
