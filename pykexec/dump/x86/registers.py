"""struct pt_regs of x86_64, the beginning of user_regs_struct (arch/x86/include/asm/ptrace.h)."""

from __future__ import annotations

from pykexec.dump.registers import Layout

LAYOUT = Layout(
    (
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
        "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
    ),
    ip="rip",
    sp="rsp",
    in_user_mode=lambda values: values["cs"] & 3 == 3,
)  # fmt: skip
IRET = LAYOUT.names.index("rip") * 8
"""Start of the registers that the processor itself pushes."""
