"""This program's terms for remedies: options of kexec(8), or otherwise those of pykexec."""

from __future__ import annotations

from pykexec.cli.terms import PYKEXEC
from pykexec.remedies import Terms, Wish

OWN: Terms = {
    Wish.APPEND: "--append",
    Wish.CRASH: "--load-panic",
    Wish.DIRECT: "--args-none",
    Wish.DTB: "--dtb",
    Wish.ENTRY: "--entry",
    Wish.INITRD: "--initrd",
    Wish.MEM_MAX: "--mem-max",
    Wish.MEM_MIN: "--mem-min",
    Wish.MODULE: "--module",
    Wish.NO_CHECKS: "--no-checks",
    Wish.REAL_MODE: "--real-mode",
    Wish.TYPE: "--type",
    Wish.VERBOSE: "-d",
    (Wish.SYSCALL, "file"): "-s",
    (Wish.SYSCALL, "load"): "-c",
    Wish.SYSCALL: "-s, -c or -a",
}
OTHERS = (
    *(Wish.BACKEND, Wish.CMDLINE_REMOVE, Wish.CRASH_BY_NORMAL, Wish.CRASH_SIZE, Wish.MACHINE),
    *(Wish.MODE, Wish.NO_INITRD_CHECK, Wish.PROFILE, Wish.REPLACE, Wish.ROOT),
)
"""Wishes for which only pykexec load has an option."""
KEXEC8: Terms = {
    **PYKEXEC,
    **{wish: f"pykexec load {PYKEXEC[wish]}" for wish in OTHERS},
    **OWN,
}
