"""A machine in a folder: files by absolute path, added to a small complete one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec.abi.elf import EHDR, EI_IDENT, EM_X86_64, ET_CORE, PHDR, PT_LOAD
from pykexec.host.root import Folder

DIRECT_MAP = 0xFFFF888000000000

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000f0000-000fffff : System ROM
00100000-3ffdbfff : System RAM
  02000000-02ffffff : Kernel code
  03000000-037fffff : Kernel rodata
  03800000-03bfffff : Kernel data
  03d00000-03ffffff : Kernel bss
  3e000000-3e00ffff : Crash kernel
3ffdc000-3fffffff : Reserved
fee00000-fee00fff : Local APIC
"""

KALLSYMS = """\
0000000000000000 A __per_cpu_start
000000000002d800 A __per_cpu_end
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000800 D __per_cpu_offset
ffffffff81000900 D tsc_khz
ffffffff8300aa00 B kexec_image
ffffffff8300aa08 B kexec_crash_image
ffffffff81a00000 T relocate_kernel
ffffffffc0000000 t loaded\t[module]
"""


def kcore_headers(*loads: tuple[int, int, int], offset: int = 0x1000) -> bytes:
    """The start of /proc/kcore, without memory, from (vaddr, paddr, size) of each PT_LOAD."""
    header = EHDR.pack(
        EI_IDENT, ET_CORE, EM_X86_64, 1, 0, EHDR.size, 0, 0,
        EHDR.size, PHDR.size, len(loads), 0, 0, 0,
    )  # fmt: skip
    return header + b"".join(
        PHDR.pack(PT_LOAD, 7, offset, vaddr, paddr, size, size, 0x1000)
        for vaddr, paddr, size in loads
    )


def pci_config(command: int, class_code: int) -> bytes:
    return struct.pack("<HHHHI", 0x1AF4, 0x1000, command, 0x10, class_code << 8 | 1).ljust(
        64, b"\0"
    )


NO_PADDR = (1 << 64) - 1

KCORE_HEADERS = kcore_headers(
    (0xFFFFC90000000000, NO_PADDR, 1 << 40),
    (0xFFFFFFFF81000000, 0x2000000, 0x2000000),
    (DIRECT_MAP + 0x1000, 0x1000, 0x9E000),
    (DIRECT_MAP + 0x100000, 0x100000, 0x3FEDC000),
)
PER_CPU_OFFSETS_AT = 0x1800
"""Offset in the file of the symbol __per_cpu_offset."""
PER_CPU_OFFSETS = struct.pack(
    "<4Q", *(DIRECT_MAP + 0x3FC00000 + 0x100000 * cpu for cpu in (0, 9, 9, 1))
)
TSC_KHZ_AT, TSC_KHZ = 0x1900, 2_394_374

FILES: dict[str, str | bytes] = {
    "/proc/iomem": IOMEM,
    "/proc/cmdline": "root=/dev/vda1 ro quiet crashkernel=64K\n",
    "/proc/meminfo": "MemTotal:  1000000 kB\nMemFree:  600000 kB\nMemAvailable: 700000 kB\n"
    "HugePages_Total:       4\n",
    "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lm pdpe1gb\n",
    "/proc/kallsyms": KALLSYMS,
    "/proc/kcore": (KCORE_HEADERS.ljust(PER_CPU_OFFSETS_AT, b"\0") + PER_CPU_OFFSETS).ljust(
        TSC_KHZ_AT, b"\0"
    )
    + struct.pack("<I", TSC_KHZ),
    "/proc/sys/kernel/osrelease": "6.1.0-40-amd64\n",
    "/proc/sys/kernel/arch": "x86_64\n",
    "/proc/sys/kernel/panic": "10\n",
    "/proc/sys/kernel/panic_on_oops": "1\n",
    "/proc/sys/kernel/unknown_nmi_panic": "0\n",
    "/proc/sys/kernel/kptr_restrict": "0\n",
    "/proc/sys/kernel/kexec_load_disabled": "0\n",
    "/proc/self/status": "Name:\tpython3\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n",
    "/proc/self/mounts": "proc /proc proc rw 0 0\nhuge /dev/hugepages hugetlbfs rw 0 0\n",
    "/proc/1/status": "Name:\tinit\nHugetlbPages:\t       0 kB\n",
    "/proc/77/status": "Name:\tqemu\nHugetlbPages:\t    8192 kB\n",
    "/sys/module/kernel/parameters/crash_kexec_post_notifiers": "N\n",
    "/sys/kernel/boot_params/data": bytes(4096),
    "/sys/kernel/boot_params/version": "0x020f\n",
    "/sys/kernel/vmcoreinfo": "3a001000 1024\n",
    "/sys/kernel/kexec_loaded": "0\n",
    "/sys/kernel/kexec_crash_loaded": "1\n",
    "/sys/kernel/kexec_crash_size": "65536\n",
    "/sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    "/sys/devices/system/memory/block_size_bytes": "8000000\n",
    "/sys/devices/system/memory/memory5/state": "online\n",
    "/sys/devices/system/memory/memory5/valid_zones": "DMA32\n",
    "/sys/devices/system/node/node0/memory5/state": "online\n",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "4\n",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "0\n",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages": "0\n",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages": "0\n",
    "/sys/kernel/iommu_groups/0/type": "DMA\n",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm \n",
    "/sys/firmware/memmap/0/start": "0x0\n",
    "/sys/firmware/memmap/0/end": "0x9fbff\n",
    "/sys/firmware/memmap/0/type": "System RAM\n",
    "/sys/firmware/memmap/1/start": "0x100000\n",
    "/sys/firmware/memmap/1/end": "0x3ffdbfff\n",
    "/sys/firmware/memmap/1/type": "System RAM\n",
    "/sys/devices/system/cpu/cpu0/crash_notes": "3fc1b400\n",
    "/sys/devices/system/cpu/cpu0/crash_notes_size": "368\n",
    "/sys/devices/system/cpu/cpu3/crash_notes": "3fd1b400\n",
    "/sys/devices/system/cpu/cpu3/crash_notes_size": "368\n",
    "/sys/devices/system/cpu/cpufreq/boost": "1\n",
    "/sys/bus/pci/devices/0000:00:00.0/config": pci_config(0x4, 0x060000),
    "/sys/bus/pci/devices/0000:00:03.0/config": pci_config(0x406, 0x020000),
    "/sys/bus/pci/devices/0000:00:03.0/uevent": "DRIVER=virtio-pci\nPCI_CLASS=20000\n",
    "/sys/bus/pci/devices/0000:00:04.0/config": pci_config(0x2, 0x010000),
    "/boot/config-6.1.0-40-amd64": "CONFIG_KEXEC=y\n"
    '# CONFIG_KEXEC_JUMP is not set\nCONFIG_LOCALVERSION=""\n',
    "/usr/lib/udev/rules.d/50-kdump-tools.rules": "PROGRAM=/usr/sbin/kdump-config try-reload\n",
    "/etc/systemd/system/basic.target.wants/kdump-tools.service": "[Unit]\n",
    "/etc/default/grub": "GRUB_CMDLINE_LINUX_DEFAULT=quiet\n",
}

MakeTree = Callable[[dict[str, str | bytes | None]], Folder]


@pytest.fixture
def tree(tmp_path: Path) -> MakeTree:
    """The complete machine with some files replaced; None removes a file."""

    def make(changes: dict[str, str | bytes | None]) -> Folder:
        files: dict[str, str | bytes | None] = {**FILES, **changes}
        for path, content in files.items():
            if content is None:
                continue
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        return Folder(tmp_path)

    return make


def without(prefix: str) -> dict[str, str | bytes | None]:
    """The change that removes a folder or a file."""
    return {path: None for path in FILES if path == prefix or path.startswith(prefix + "/")}


ZEROS = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n"
RSDP = 0x7FB7E014
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
EFI_FILES: dict[str, str | bytes | None] = {
    "/sys/firmware/efi/systab": f"ACPI20={RSDP:#x}\nACPI=0x7fb7e000\nSMBIOS=0x7f9ab000\n",
    "/sys/firmware/efi/fw_vendor": "0x7fe1c018\n",
    "/sys/firmware/efi/runtime": "0xfffffffeffe25b18\n",
    "/sys/firmware/efi/config_table": "0x7fd9ed98\n",
    **{
        f"/sys/firmware/efi/runtime-map/{entry}/{field}": f"{value:#x}\n"
        for entry in (0, 2, 10)
        for field, value in (
            ("type", 5), ("phys_addr", 0x1000 * entry), ("virt_addr", 0xFFFFFFFE00000000),
            ("num_pages", 3), ("attribute", 0x800000000000000F),
        )
    },
}  # fmt: skip
