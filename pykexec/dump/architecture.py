"""Which architecture a dump is of, and the modules that know it. Imported for each log that is
printed, so the modules of an architecture are imported when they are used."""

from __future__ import annotations

from pykexec.dump.faults import UnknownKernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pykexec.dump.elf_memory import ElfMemory
    from pykexec.dump.kdump_memory import KdumpMemory
    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.linux import Linux
    from pykexec.dump.registers import Layout
    from pykexec.dump.vmcoreinfo import VmcoreInfo

X86_64, ARM64 = "x86_64", "aarch64"
"""As uname -m prints them."""
MACHINES = {62: X86_64, 183: ARM64}
"""By the e_machine of an ELF file."""
ARM64_KEY = "NUMBER(kimage_voffset)"
"""In VMCOREINFO of arm64 alone (arch/arm64/kernel/vmcore_info.c)."""


def architecture(memory: ElfMemory | KdumpMemory, info: VmcoreInfo | None) -> str:
    """The architecture of a dump by the header of its file, or by VMCOREINFO for the
    kdump-compressed files of QEMU, which name none."""
    if memory.machine in MACHINES.values():
        return memory.machine
    return ARM64 if info and info.has(ARM64_KEY) else X86_64


def kernel_memory(memory: ElfMemory | KdumpMemory, info: VmcoreInfo) -> KernelMemory:
    """The crashed kernel's virtual memory. Raises UnknownKernel, DamagedDump."""
    if architecture(memory, info) == ARM64:
        from pykexec.dump.arm64 import paging as arm64

        return arm64.kernel_memory(memory, info)
    from pykexec.dump.x86 import paging as x86

    return x86.kernel_memory(memory, info)


def registers_of(name: str) -> Layout:
    """The registers in a note of a CPU."""
    if name == ARM64:
        from pykexec.dump.arm64.registers import LAYOUT

        return LAYOUT
    from pykexec.dump.x86.registers import LAYOUT as X86_LAYOUT

    return X86_LAYOUT


def text_start(name: str, info: Mapping[str, str]) -> int:
    """The lowest virtual address at which a dump shows the kernel's image, not the direct map.
    `info` has the keys of VMCOREINFO, and may be empty."""
    if name == ARM64:
        from pykexec.dump.arm64 import paging as arm64

        return arm64.text_start(info.get("NUMBER(VA_BITS)", ""), info.get("PAGESIZE", ""))
    from pykexec.dump.x86 import paging as x86

    return x86.START_KERNEL_MAP


def data_address(linux: Linux, name: str) -> int:
    """The address of data that neither kallsyms nor the table of exported symbols names. Raises
    UnknownKernel."""
    if linux.dump.architecture == ARM64:
        from pykexec.dump.arm64 import references

        return references.address(linux, name)
    raise UnknownKernel(f"the kernel has no symbol {name}")
