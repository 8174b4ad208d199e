"""This program's terms for remedies: its options."""

from __future__ import annotations

from pykexec.remedies import Terms, Wish

PYKEXEC: Terms = {
    Wish.APPEND: "--append",
    Wish.BACKEND: "--backend",
    Wish.CMDLINE_REMOVE: "--cmdline-remove",
    Wish.CRASH: "--crash",
    Wish.CRASH_BY_NORMAL: "--crash-by-normal",
    Wish.CRASH_SIZE: "--crash-size",
    Wish.DIRECT: "pykexec-kexec --args-none",
    Wish.DTB: "--dtb",
    Wish.ENTRY: "--entry",
    Wish.FORCE: "--force",
    Wish.INITRD: "--initrd",
    Wish.MACHINE: "--machine",
    Wish.MEM_MAX: "--mem-max",
    Wish.MEM_MIN: "--mem-min",
    Wish.MODE: "--mode",
    Wish.MODULE: "--module",
    Wish.NO_CHECKS: "--no-checks",
    Wish.NO_INITRD_CHECK: "--no-initrd-check",
    Wish.OUTPUT: "--output",
    Wish.PROFILE: "--profile",
    Wish.REAL_MODE: "pykexec-kexec --real-mode -l",
    Wish.REPLACE: "--replace",
    Wish.RESERVATION: "--crashkernel",
    Wish.ROOT: "--root",
    Wish.SOURCE: "--source",
    Wish.SYSCALL: "--syscall",
    Wish.TYPE: "--type",
    Wish.VERBOSE: "-v",
}
