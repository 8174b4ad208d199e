"""Rows about a panic, devices and processors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.flows.doctor import Level, Row
from pykexec.machine import (
    Machine,
)
from pykexec.placement.encryption import BY_FILE
from tests.flows.doctor.machines import (
    ARM,
    BRIDGE,
    HEALTHY,
    NIC,
    NO_FILE,
    config,
    row,
    sysctls,
)

ROWS: list[tuple[str, Machine, Row]] = [
    (
        "no encryption on arm64",
        ARM,
        Row("memory encryption", Level.OK, "none is known; realms are not recognized"),
    ),
    (
        "an oops is no panic",
        sysctls(panic_on_oops=0),
        Row("panic_on_oops", Level.WARN,
            "kernel.panic_on_oops is 0: most oopses kill a process and make no dump",
            "sysctl kernel.panic_on_oops=1"),
    ),
    (
        "a panic halts for ever",
        sysctls(panic=0),
        Row("kernel.panic", Level.WARN,
            "kernel.panic is 0: if no capture kernel starts, the machine halts forever",
            "sysctl kernel.panic=10"),
    ),
    (
        "a panic reboots at once",
        sysctls(panic=-1),
        Row("kernel.panic", Level.OK, "reboots at once"),
    ),
    (
        "notifiers come first",
        sysctls(crash_kexec_post_notifiers=True),
        Row("crash_kexec_post_notifiers", Level.WARN,
            "Y: panic notifiers run before the crash image starts, and may hang",
            "boot without crash_kexec_post_notifiers"),
    ),
    (
        "an NMI is no panic",
        sysctls(unknown_nmi_panic=0),
        Row("unknown_nmi_panic", Level.WARN,
            "kernel.unknown_nmi_panic is 0: an NMI from the BMC or hypervisor does not make a dump",
            "sysctl kernel.unknown_nmi_panic=1"),
    ),
    (
        "bridges are no bus masters of their own",
        replace(HEALTHY, pci_devices=(BRIDGE,)),
        Row("bus masters", Level.OK, "none"),
    ),
    (
        "a device that no driver will quiesce",
        replace(HEALTHY, pci_devices=(NIC, replace(NIC, address="0000:00:05.0", driver=""))),
        Row("bus masters", Level.WARN,
            "2 devices can write to memory: 0000:00:03.0 (virtio-pci), 0000:00:05.0 (no driver)",
            "nothing quiesces 0000:00:05.0: unbound, but still enabled"),
    ),
    (
        "many devices",
        replace(HEALTHY, pci_devices=(NIC,) * 8),
        Row("bus masters", Level.OK,
            "8 devices can write to memory: " + ", ".join(["0000:00:03.0 (virtio-pci)"] * 6)
            + " and 2 more"),
    ),
    (
        "no IOMMU",
        replace(HEALTHY, iommu_groups=0),
        Row("IOMMU", Level.WARN,
            "there is no active IOMMU: devices can write to the memory of the capture kernel",
            "use mode in-place (its memory was never given to a device), or boot with "
                "intel_iommu=on or amd_iommu=on"),
    ),
    (
        "SME by the command line",
        replace(HEALTHY, cpu_flags=frozenset({"sme"}), cmdline="mem_encrypt=off mem_encrypt=on"),
        Row("memory encryption", Level.FAIL,
            "AMD SME encrypts memory, and the stub would read ciphertext",
            "boot with mem_encrypt=off"),
    ),
    (
        "SME that is not switched on",
        replace(HEALTHY, cpu_flags=frozenset({"sme"})),
        Row("memory encryption", Level.OK, "neither SME nor a confidential guest"),
    ),
    (
        "SME by the kernel's default",
        replace(config(AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT="y"), cpu_flags=frozenset({"sme"})),
        Row("memory encryption", Level.FAIL,
            "AMD SME encrypts memory, and the stub would read ciphertext",
            "boot with mem_encrypt=off"),
    ),
    (
        "SME, and nobody says whether it is on",
        replace(HEALTHY, cpu_flags=frozenset({"sme"}), config=NO_FILE),
        Row("memory encryption", Level.UNKNOWN, NO_FILE.why),
    ),
    (
        "a confidential guest",
        replace(HEALTHY, cpu_flags=frozenset({"tdx_guest"})),
        Row("memory encryption", Level.FAIL,
            "the stub cannot run in this Intel TDX guest", BY_FILE),
    ),
    (
        "five levels of page tables",
        replace(HEALTHY, cpu_flags=frozenset({"la57", "pdpe1gb"})),
        Row("page tables", Level.OK, "five levels (la57), 1 GiB pages"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "expected"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_row(machine: Machine, expected: Row) -> None:
    assert row(machine, expected.name) == expected
