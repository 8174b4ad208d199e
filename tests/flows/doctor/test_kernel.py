"""Rows about permission and the running kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.flows.doctor import Level, Row
from pykexec.machine import (
    Efi,
    Machine,
    PcFirmware,
    Unknown,
)
from tests.flows.doctor.machines import (
    ARM,
    HEALTHY,
    NO_FILE,
    config,
    kexec,
    row,
    sysctls,
)

ROWS: list[tuple[str, Machine, Row]] = [
    (
        "not root",
        replace(HEALTHY, capabilities=frozenset[str]()),
        Row("CAP_SYS_BOOT", Level.FAIL, "CapEff in /proc/self/status lacks it",
            "run as root, outside of containers"),
    ),
    (
        "in a container",
        replace(HEALTHY, seccomp=True),
        Row("seccomp", Level.WARN, "a filter restricts the system calls of this process",
            "run outside of containers and sandboxes, where kexec_load returns EPERM or ENOSYS"),
    ),
    (
        "the one-way switch",
        kexec(load_disabled=True),
        Row("kexec_load_disabled", Level.FAIL, "kernel.kexec_load_disabled is 1",
            "only a reboot clears it: remove the sysctl from /etc/sysctl.d"),
    ),
    (
        "a kernel before 6.3 has no limits",
        kexec(load_limit_panic=NO_FILE),
        Row("kexec_load_limit_panic", Level.OK, "this kernel has no such limit"),
    ),
    (
        "a limit that is not used up",
        kexec(load_limit_reboot=2),
        Row("kexec_load_limit_reboot", Level.WARN, "2 left",
            "use --dry-run first: every load and unload counts, even a failed one"),
    ),
    (
        "a limit that is",
        kexec(load_limit_reboot=0),
        Row("kexec_load_limit_reboot", Level.FAIL, "0 left", "only a reboot resets it"),
    ),
    (
        "locked down",
        replace(HEALTHY, lockdown="integrity"),
        Row("lockdown", Level.WARN, "integrity: kexec_load is disabled",
            "load a signed kernel with kexec_file_load, or turn Secure Boot off, and "
                "boot without lockdown="),
    ),
    (
        "locked down further",
        replace(HEALTHY, lockdown="confidentiality"),
        Row("lockdown", Level.WARN, "confidentiality: kexec_load and /proc/kcore are disabled",
            "load a signed kernel with kexec_file_load, or turn Secure Boot off, and "
                "boot without lockdown="),
    ),
    (
        "locked down, and the other call is not there",
        replace(config(KEXEC_FILE="n"), lockdown="integrity"),
        Row("lockdown", Level.FAIL, "integrity: kexec_load is disabled",
            "turn Secure Boot off, and boot without lockdown="),
    ),
    (
        "Secure Boot",
        replace(HEALTHY, firmware=PcFirmware(efi=Efi()), secure_boot=True),
        Row("Secure Boot", Level.WARN, "on",
            "kernels of distributions lock down then: see lockdown"),
    ),
    (
        "EFI without it",
        replace(HEALTHY, firmware=PcFirmware(efi=Efi())),
        Row("Secure Boot", Level.OK, "off"),
    ),
    (
        "signatures are required",
        config(KEXEC_SIG_FORCE="y"),
        Row("kernel signature", Level.WARN, "CONFIG_KEXEC_SIG_FORCE=y",
            "kexec_file_load accepts only signed kernels"),
    ),
    (
        "signatures are looked at",
        config(KEXEC_SIG="y"),
        Row("kernel signature", Level.OK,
            "checked by kexec_file_load, but not required (CONFIG_KEXEC_SIG=y)"),
    ),
    (
        "no kexec_load",
        config(KEXEC="n"),
        Row("CONFIG_KEXEC", Level.WARN, "is not set: this kernel has no kexec_load",
            "use a kernel with CONFIG_KEXEC for crash by normal"),
    ),
    (
        "no kexec_file_load",
        config(KEXEC_FILE="n"),
        Row("CONFIG_KEXEC_FILE", Level.WARN, "is not set: this kernel has no kexec_file_load",
            "use a kernel with it where the kernel is locked down, which can load nothing else"),
    ),
    (
        "what a load would use",
        HEALTHY,
        Row("system call", Level.OK, "kexec_load: it places the image as planned"),
    ),
    (
        "no kexec at all",
        config(KEXEC="n", KEXEC_FILE="n"),
        Row("system call", Level.FAIL,
            "this kernel has no kexec system call: CONFIG_KEXEC and CONFIG_KEXEC_FILE are not set",
            "boot a kernel with CONFIG_KEXEC=y, such as that of a distribution"),
    ),
    (
        "no kexec at all, and no remedy that is none",
        config(KEXEC="n", KEXEC_FILE="n"),
        Row("CONFIG_KEXEC_FILE", Level.FAIL, "is not set: this kernel has no kexec_file_load",
            "boot a kernel with CONFIG_KEXEC=y, such as that of a distribution"),
    ),
    (
        "another architecture",
        replace(HEALTHY, architecture="riscv64"),
        Row("architecture", Level.FAIL, "riscv64",
            "use this machine only to plan and rehearse loads for x86_64"),
    ),
    (
        "arm64",
        ARM,
        Row("architecture", Level.OK, "aarch64, pages of 16 KiB"),
    ),
    (
        "arm64 with an unknown page size",
        replace(ARM, page_size=Unknown("no auxv")),
        Row("architecture", Level.UNKNOWN, "no auxv"),
    ),
    (
        "arm64 with a page size that it cannot have",
        replace(ARM, page_size=12345),
        Row("architecture", Level.FAIL, "aarch64, pages of 12345 bytes",
            "capture the machine again"),
    ),
    (
        "a 32-bit kernel",
        replace(HEALTHY, architecture="i686"),
        Row("architecture", Level.WARN, "i686",
            "use images with a 32-bit entry; crash images cannot be loaded"),
    ),
    (
        "this kernel swaps",
        HEALTHY,
        Row("pages at a kexec", Level.OK,
            "swapped: Linux 6.1.0 is older than 6.14, and has no kexec_pa_swap_page; "
            "CONFIG_KEXEC_JUMP is not set"),
    ),
    (
        "this kernel copies",
        replace(HEALTHY, release="7.3.4"),
        Row("pages at a kexec", Level.WARN,
            "copied: Linux 7.3.4 is 6.14 or later; CONFIG_KEXEC_JUMP is not set",
            "use another mode than kernel-swap; it needs a crash region"),
    ),
    (
        "this kernel swaps when asked to",
        replace(config(KEXEC_JUMP="y"), release="7.3.4"),
        Row("pages at a kexec", Level.OK,
            "swapped with KEXEC_PRESERVE_CONTEXT: Linux 7.3.4 is 6.14 or later; "
            "CONFIG_KEXEC_JUMP=y"),
    ),
    (
        "kptr_restrict hides the symbols",
        replace(sysctls(kptr_restrict=2), symbols_hidden=True),
        Row("/proc/kallsyms", Level.WARN, "hides addresses (kernel.kptr_restrict is 2)",
            "sysctl kernel.kptr_restrict=1"),
    ),
    (
        "not root, so no symbols",
        replace(sysctls(kptr_restrict=1), symbols_hidden=True),
        Row("/proc/kallsyms", Level.WARN, "hides addresses (kernel.kptr_restrict is 1)",
            "run as root (CAP_SYSLOG)"),
    ),
    (
        "a kernel that lists functions only",
        replace(HEALTHY, symbols=frozenset({"relocate_kernel"})),
        Row("/proc/kallsyms", Level.WARN, "does not list kexec_image",
            "use a kernel with CONFIG_KALLSYMS_ALL=y for mode kernel-swap"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "expected"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_row(machine: Machine, expected: Row) -> None:
    assert row(machine, expected.name) == expected
