"""A Debian system on a disk, for a capture kernel to boot into: packages unpacked by name, what
their own scripts would have done at the installation, and kdump-tools' own capture initrd.

/dev/vdc and further disks of a guest; this one has the label `debian`.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .debian import Apt, Unavailable, cache_folder, locked, sh
from .supplies import TOOLS_SUITE, Kernel

PACKAGES = (
    *("base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils"),
    *("diffutils", "e2fsprogs", "findutils", "grep", "gzip", "hostname", "libc-bin", "login"),
    *("mawk", "mount", "perl-base", "sed", "systemd-sysv", "tar", "udev", "util-linux"),
    *("busybox", "initramfs-tools", "kdump-tools", "makedumpfile"),
)
LABEL = "debian"
DISK_SIZE = 1 << 30  # bytes, sparse
FORMAT = "1"  # change it when the same packages give another disk
MERGED = ("bin", "sbin", "lib", "lib64")
DEVICES = {"console": (5, 1), "null": (1, 3), "tty": (5, 0), "urandom": (1, 9), "zero": (1, 5)}
DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")


@dataclass(frozen=True)
class System:
    """`disk` is to be copied before a guest writes to it; `initrd` is kdump-tools'."""

    disk: Path
    initrd: Path

    def copy(self, folder: Path) -> Path:
        """The disk for one run."""
        target = folder / "debian.img"
        sh("cp", "--sparse=always", self.disk, target, why="no room for a disk")
        return target


def debian_system(kernel: Kernel) -> System:
    """With this kernel's modules; built once, and kept in the cache."""
    target = cache_folder() / "systems" / f"{kernel.release}-{FORMAT}"
    found = System(target / "debian.img", target / "initrd.img")
    with locked("systems"):
        if target.is_dir():
            return found
        if os.geteuid() != 0:
            raise Unavailable("putting a Debian system together takes root (chroot, mknod)")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            build(
                kernel,
                temporary / "root",
                System(temporary / "debian.img", temporary / "initrd.img"),
            )
            shutil.rmtree(temporary / "root")
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return found


def build(kernel: Kernel, root: Path, into: System) -> None:
    """The system as a folder, its initrd, and the disk."""
    root.mkdir()
    unpack(PACKAGES, root)
    settle(root)
    add_kernel(kernel, root)
    shutil.copy(capture_initrd(kernel, root), into.initrd)
    into.disk.touch()
    os.truncate(into.disk, DISK_SIZE)
    words = ("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-d", root, into.disk)
    sh(*words, why="no ext4 disk")


def unpack(packages: Sequence[str], root: Path) -> None:
    """These and all they depend on, as apt resolves it for an empty system."""
    apt = Apt(TOOLS_SUITE)
    apt.update()
    apt.unpack(apt.resolved(packages), root)


def settle(root: Path) -> None:
    """What maintainer scripts do: the merged /usr, users, alternatives, devices, /etc."""
    for name in MERGED:
        usr = root / "usr" / name
        if (root / name).is_dir():
            shutil.copytree(root / name, usr, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
        usr.mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    for name, target in (("sh", "dash"), ("awk", "mawk")):
        link = root / "usr/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for name, numbers in DEVICES.items():
        os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
    defaults = root / "usr/share/kdump-tools/kdump-tools.conf"
    shutil.copy(defaults, root / "etc/default/kdump-tools")
    (root / "etc/fstab").write_text(f"LABEL={LABEL} / ext4 rw 0 1\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/machine-id").touch()
    inside(root, "/sbin/ldconfig")


def add_kernel(kernel: Kernel, root: Path) -> None:
    """Its image and its modules, where Debian's package has them."""
    modules = root / "usr/lib/modules" / kernel.release
    shutil.copytree(kernel.modules, modules, symlinks=True)
    boot = root / "boot"
    shutil.copy(kernel.image, boot / f"vmlinuz-{kernel.release}")
    # mkinitramfs asks it for the compression; newer packages have it elsewhere.
    config = boot / f"config-{kernel.release}"
    config.write_text("".join(f"CONFIG_RD_{name}=y\n" for name in ("GZIP", "ZSTD")))
    inside(root, "/sbin/depmod", kernel.release)


def capture_initrd(kernel: Kernel, root: Path) -> Path:
    """By the hook that kdump-tools installs for new kernels, unchanged. Which modules are
    needed is said here: by itself it asks the machine it runs on."""
    configured = root / "etc/initramfs-tools"
    (configured / "conf.d/modules").write_text("MODULES=list\n")
    (configured / "modules").write_text("".join(f"{name}\n" for name in DISK_MODULES))
    inside(root, "/etc/kernel/postinst.d/kdump-tools", kernel.release)
    return root / "var/lib/kdump" / f"initrd.img-{kernel.release}"


def inside(root: Path, *words: str) -> None:
    """A command of the system, run on this computer."""
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    sh("chroot", root, "/usr/bin/env", path, *words, why=f"{words[0]} of the system")
