"""One frozen value for each architecture: the numbers that architecture-independent code needs.

Everything beyond numbers (boot protocol, images, purgatory) is code, in folders named after the
architecture.
"""

from __future__ import annotations

from dataclasses import replace

from pykexec.frozen import dataclass


@dataclass(frozen=True, slots=True)
class SyscallNumbers:
    """arch/*/include/generated/uapi/asm/unistd*.h; -1 if the kernel does not have the call
    (ENOSYS)."""

    kexec_load: int
    kexec_file_load: int
    reboot: int
    init_module: int
    delete_module: int
    finit_module: int


@dataclass(frozen=True, slots=True)
class Arch:
    """The numbers of one architecture; sizes in bytes."""

    name: str
    """As printed by uname -m, and used by QEMU and Debian's cross toolchains."""
    unames: frozenset[str]
    """Everything that uname -m may print for it."""
    bits: int
    elf_machine: int
    """e_machine of its ELF files (include/uapi/linux/elf-em.h)."""
    syscalls: SyscallNumbers
    page_size: int
    """The one of `page_sizes` that the kernel was built with."""
    page_sizes: tuple[int, ...]
    destination_limit: int
    """The highest value for the end of a segment (KEXEC_DESTINATION_MEMORY_LIMIT)."""
    prstatus_size: int
    """struct elf_prstatus, in NT_PRSTATUS."""

    @property
    def kexec_arch(self) -> int:
        """KEXEC_ARCH_*, the upper half of the flags of kexec_load(2)."""
        return self.elf_machine << 16

    def with_page_size(self, size: int | None) -> Arch | None:
        """The value for a kernel with pages of `size` bytes; None if it cannot have such pages, or
        if the size is None, for unknown, and the architecture has several."""
        if len(self.page_sizes) == 1:
            return self
        return replace(self, page_size=size) if size in self.page_sizes else None


X86_64 = Arch(
    name="x86_64",
    unames=frozenset({"x86_64"}),
    bits=64,
    elf_machine=62,
    syscalls=SyscallNumbers(246, 320, 169, 175, 176, 313),
    page_size=4096,
    page_sizes=(4096,),
    destination_limit=(1 << 46) - 1,
    prstatus_size=336,
)
I386 = Arch(
    name="i686",
    unames=frozenset({"i386", "i486", "i586", "i686"}),
    bits=32,
    elf_machine=3,
    syscalls=SyscallNumbers(283, -1, 88, 128, 129, 350),
    page_size=4096,
    page_sizes=(4096,),
    destination_limit=(1 << 32) - 1,
    prstatus_size=144,
)
"""A 32-bit host. It does not support crash by normal."""
ARM64 = Arch(
    name="aarch64",
    unames=frozenset({"aarch64"}),
    bits=64,
    elf_machine=183,
    syscalls=SyscallNumbers(104, 294, 142, 105, 106, 273),
    page_size=4096,
    page_sizes=(4096, 16384, 65536),
    destination_limit=(1 << 64) - 1,
    prstatus_size=392,
)
"""`Machine.arch` has the page size that the kernel was built with (CONFIG_ARM64_4K_PAGES and so
on)."""

ARCHITECTURES = (X86_64, I386, ARM64)


def arch_named(uname: str) -> Arch | None:
    """The architecture of a kernel with this uname -m; None if it is not supported."""
    return next((arch for arch in ARCHITECTURES if uname in arch.unames), None)
