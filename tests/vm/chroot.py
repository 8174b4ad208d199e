"""Programs of a Debian tree, run on this computer as root. Those of arm64 are emulated by
qemu-user, which is registered in a user namespace, and so for that tree alone."""

from __future__ import annotations

from pathlib import Path

from pykexec.arch import ARM64

from .debian import sh
from .supplies import program

ARM64_PROGRAM = (
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
)
"""The start of such a file and its mask (QEMU: scripts/qemu-binfmt-conf.sh)."""
REGISTERED = """
set -e
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf %s "$1" > /proc/sys/fs/binfmt_misc/register
shift
exec "$@"
"""
OWN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork")


def is_foreign(root: Path) -> bool:
    """Whether the tree's programs are those of arm64 (e_machine in elf.h)."""
    header = (root / "usr/bin/env").read_bytes()[:20]
    return int.from_bytes(header[18:20], "little") == ARM64.elf_machine


def chroot(root: Path) -> tuple[str | Path, ...]:
    """The words before a command that runs in the tree, in mount and process namespaces of its own.
    Emulation takes Linux 6.7, whose user namespaces have a binfmt_misc each (21ca59b365c0)."""
    if not is_foreign(root):
        return (*OWN_NAMESPACES, "chroot", root)
    magic, mask = ARM64_PROGRAM
    emulator = program("qemu-aarch64-static").path
    line = f":arm64:M::{magic}:{mask}:{emulator}:F"  # F: the emulator is outside of the tree
    own = (*OWN_NAMESPACES, "--user", "--map-root-user")
    return (*own, "/bin/sh", "-c", REGISTERED, "sh", line, "chroot", root)


def inside(root: Path, *words: str) -> None:
    """Run a command of the tree."""
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    sh(*chroot(root), "/usr/bin/env", path, *words, why=f"{words[0]} of the system")
