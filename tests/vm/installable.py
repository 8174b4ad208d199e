"""A Debian 12 system as its installer leaves it, on a disk: apt and dpkg know what is installed,
GRUB is configured, and the kernel has its initrd. Without kdump-tools, or with them armed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from .chroot import inside
from .debian import Apt, Unavailable, cache_folder, locked, package_tree, sh
from .supplies import TOOLS_SUITE, Kernel
from .system import DISK_MODULES, LABEL, PACKAGES, add_kernel, kernel_config, settle_tools

FORMAT = "1"  # change it if the same packages give another system
OTHERS = (
    *("apt", "dpkg", "grub-common", "grub2-common", "kmod", "procps", "init-system-helpers"),
    *(
        "python3-click",
        "python3-construct",
        "python3-pyelftools",
        "python3-rich",
        "python3-minimal",
    ),
)
"""What pykexec depends on, and what every installed system has."""
KDUMP = ("kdump-tools", "kexec-tools", "sysvinit-utils")
"""The last one has the functions of lsb-base, which the service of the first one reads."""
INSTALLED = "Status: install ok installed\n"


def installable(kernel: Kernel) -> Path:
    """The folder with all files of the system; built once, and cached."""
    target = cache_folder() / "systems" / f"installable-{kernel.release}-{FORMAT}"
    with locked("systems"):
        if target.is_dir():
            return target / "root"
        if os.geteuid() != 0:
            raise Unavailable("putting a Debian system together takes root (chroot, mknod)")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            _build(kernel, temporary / "root")
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target / "root"


def _build(kernel: Kernel, root: Path) -> None:
    root.mkdir()
    with locked("packages"):  # another process that fetches lists would take them away
        apt = Apt(TOOLS_SUITE, kernel.architecture)
        apt.update()
        packages = apt.resolved([name for name in (*PACKAGES, *OTHERS) if name not in KDUMP])
        apt.unpack(packages, root)
        settle_tools(root)
        _register(apt, packages, root)
    (root / "etc/fstab").write_text(f"LABEL={LABEL} / ext4 rw 0 1\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    for name in ("cache/apt/archives/partial", "lib/apt/lists/partial", "log/apt"):
        (root / "var" / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "usr/share/grub/default/grub", root / "etc/default/grub")
    (root / "boot/grub").mkdir(exist_ok=True)
    inside(root, "/sbin/ldconfig")
    add_kernel(kernel, root)
    _boot_initrd(kernel, root)


def _register(apt: Apt, packages: dict[str, str], root: Path) -> None:
    """dpkg's own records: that these versions are installed, without lists of their files."""
    names = [f"{name}={version}" for name, version in packages.items()]
    words = ("apt-cache", *apt.options(), "show", "--no-all-versions", *names)
    found = sh(*words, why="the packages are not described")
    records = re.split(r"\n\n+", found.strip())
    status = "\n".join(
        re.sub(r"^(Package: .*\n)", rf"\g<1>{INSTALLED}", _without_file(record)) + "\n"
        for record in records
    )
    folder = root / "var/lib/dpkg"
    for name in ("info", "updates", "triggers", "alternatives", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text(status)
    (folder / "available").touch()
    for name in packages:
        (folder / "info" / f"{name}.list").touch()


def _without_file(record: str) -> str:
    """A record of the archive, without the fields that an installed package does not have."""
    fields = ("Filename", "Size", "MD5sum", "SHA256", "Description-md5", "Tag", "Status")
    pattern = "".join(rf"{name}:.*\n(?: .*\n)*|" for name in fields).rstrip("|")
    return re.sub(rf"(?m)^(?:{pattern})", "", record + "\n").rstrip("\n")


def _boot_initrd(kernel: Kernel, root: Path) -> None:
    """As update-initramfs makes it; the modules are given, because the machine is another."""
    configured = root / "etc/initramfs-tools"
    (configured / "conf.d/modules").write_text("MODULES=list\n")
    (configured / "modules").write_text("".join(f"{name}\n" for name in DISK_MODULES))
    with kernel_config(kernel, root):
        target = f"/boot/initrd.img-{kernel.release}"
        inside(root, "/usr/sbin/mkinitramfs", "-o", target, kernel.release)


def add_kdump_tools(root: Path, kernel: Kernel) -> None:
    """kdump-tools as their maintainer scripts leave them: enabled, with the initrd of the running
    kernel."""
    for name in KDUMP:
        tree = package_tree(TOOLS_SUITE, name)
        for top in ("etc", "usr", "lib", "sbin"):
            if (tree / top).is_dir():
                target = root / ("etc" if top == "etc" else "usr" if top == "usr" else f"usr/{top}")
                sh("cp", "-a", f"{tree / top}/.", target, why="no room for kdump-tools")
    shutil.copy(root / "usr/share/kdump-tools/kdump-tools.conf", root / "etc/default/kdump-tools")
    wants = root / "etc/systemd/system/basic.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "kdump-tools.service").symlink_to("/lib/systemd/system/kdump-tools.service")
    with kernel_config(kernel, root):
        inside(root, "/etc/kernel/postinst.d/kdump-tools", kernel.release)
