"""ELF64 for core files of x86_64: include/uapi/linux/elf.h, elfcore.h."""

from __future__ import annotations

from pykexec.abi.record import Bytes, Const, Int16ul, Int32ul, Int64ul, Record, Struct

ELFMAG = b"\x7fELF"
ELFCLASS64, ELFDATA2LSB, EV_CURRENT = 2, 1, 1
ET_CORE = 4
EM_386, EM_486, EM_X86_64, EM_AARCH64 = 3, 6, 62, 183
EM_NAMES = {
    2: "sparc",
    3: "i386",
    4: "m68k",
    6: "i386",
    8: "mips",
    15: "parisc",
    20: "ppc",
    21: "ppc64",
    22: "s390",
    40: "arm",
    42: "sh",
    43: "sparc64",
    50: "ia64",
    62: "x86_64",
    183: "arm64",
    243: "riscv",
    247: "bpf",
    258: "loongarch",
}
"""ELF machine: the name that Linux uses for it."""
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
NT_GNU_ABI_TAG = 1
PF_X, PF_W, PF_R = 1, 2, 4
NT_PRSTATUS = 1
PN_XNUM = 0xFFFF

EI_IDENT = ELFMAG + bytes((ELFCLASS64, ELFDATA2LSB, EV_CURRENT)) + bytes(9)

Elf64_Ehdr = Struct(
    "e_ident" / Const(EI_IDENT),
    "e_type" / Int16ul,
    "e_machine" / Int16ul,
    "e_version" / Int32ul,
    "e_entry" / Int64ul,
    "e_phoff" / Int64ul,
    "e_shoff" / Int64ul,
    "e_flags" / Int32ul,
    "e_ehsize" / Int16ul,
    "e_phentsize" / Int16ul,
    "e_phnum" / Int16ul,
    "e_shentsize" / Int16ul,
    "e_shnum" / Int16ul,
    "e_shstrndx" / Int16ul,
)

Elf64_Phdr = Struct(
    "p_type" / Int32ul,
    "p_flags" / Int32ul,
    "p_offset" / Int64ul,
    "p_vaddr" / Int64ul,
    "p_paddr" / Int64ul,
    "p_filesz" / Int64ul,
    "p_memsz" / Int64ul,
    "p_align" / Int64ul,
)

Elf64_Nhdr = Struct("n_namesz" / Int32ul, "n_descsz" / Int32ul, "n_type" / Int32ul)

EHDR, PHDR, NHDR = Elf64_Ehdr.format, Elf64_Phdr.format, Elf64_Nhdr.format
"""For the many headers of a large dump: their values by position."""


def file_header(raw: bytes) -> Record:
    """An ELF header by the names of its fields; the caller checks e_ident, too."""
    return Elf64_Ehdr.parse(raw, any_constant=True)


ELF_PRSTATUS_SIZE = 336
"""struct elf_prstatus of x86_64, bytes."""
PR_PID_OFFSET = 32
PR_REG_OFFSET = 112
PR_REG_COUNT = 27
"""struct user_regs_struct: 27 words from r15 to gs."""

elf_prstatus = Struct(
    "si_signo" / Int32ul,
    "si_code" / Int32ul,
    "si_errno" / Int32ul,
    "pr_cursig" / Int16ul,
    "_pad0" / Bytes(2),
    "pr_sigpend" / Int64ul,
    "pr_sighold" / Int64ul,
    "pr_pid" / Int32ul,
    "pr_ppid" / Int32ul,
    "pr_pgrp" / Int32ul,
    "pr_sid" / Int32ul,
    "pr_times" / Bytes(64),
    "pr_reg" / Int64ul[PR_REG_COUNT],
    "pr_fpvalid" / Int32ul,
    "_pad1" / Bytes(4),
)
