"""struct user_pt_regs of arm64 (arch/arm64/include/uapi/asm/ptrace.h)."""

from __future__ import annotations

from pykexec.dump.registers import Layout

PSR_MODE_MASK = 0xF
"""PSR_MODE_EL0t is 0, also for 32-bit programs."""
LAYOUT = Layout(
    (*(f"x{number}" for number in range(31)), "sp", "pc", "pstate"),
    ip="pc",
    sp="sp",
    in_user_mode=lambda values: values["pstate"] & PSR_MODE_MASK == 0,
)
