from __future__ import annotations

import gzip
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

import pytest

from pykexec.arch import I386
from pykexec.flows.doctor import diagnose
from pykexec.host.captured import Recorder
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.host.running_kernel import gunzip
from pykexec.machine import (
    BootLoader,
    CpuNotes,
    HugePagePool,
    HugePageUser,
    KernelMapping,
    Machine,
    NoteArea,
    PcFirmware,
    PciDevice,
    Unknown,
)
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.cmdline import command_line

from .conftest import (
    DIRECT_MAP,
    KALLSYMS,
    KCORE_HEADERS,
    NO_PADDR,
    ZEROS,
    MakeTree,
    kcore_headers,
    without,
)

GUNZIP_MAX = 1000
TEXT = (0xFFFFFFFF81000000, 0, 0x2000)


def facts_of(firmware: PcFirmware) -> dict[str, object]:
    return {item.name: getattr(firmware, item.name) for item in fields(firmware)}


def test_complete_machine(tree: MakeTree) -> None:
    root = tree({})
    machine = read_machine(root)
    unknown = [name for name, fact in vars(machine).items() if isinstance(fact, Unknown)]
    assert unknown == ["swap_in_memory", "sme_mask", "iommus"]
    of_firmware = facts_of(machine.pc).items()
    unread = [name for name, fact in of_firmware if isinstance(fact, Unknown)]
    assert unread == ["acpi_rsdp", "acpi_rsdp_table"]
    assert machine.name == str(root.path)
    assert not isinstance(machine.memory_map, Unknown)
    assert machine.memory_map.ram == RangeSet(
        (PhysRange(0x1000, 0x9FC00), PhysRange(0x100000, 0x3FFDC000))
    )
    assert machine.memory_map_source == "/proc/iomem"
    assert machine.kernel_image == RangeSet(
        (PhysRange(0x2000000, 0x3C00000), PhysRange(0x3D00000, 0x4000000))
    )
    assert machine.per_cpu == RangeSet(
        (PhysRange(0x3FC00000, 0x3FC2E000), PhysRange(0x3FD00000, 0x3FD2E000))
    )
    assert machine.crash_kernel == RangeSet((PhysRange(0x3E000000, 0x3E010000),))
    assert machine.release == "6.1.0-40-amd64"
    assert machine.cmdline == "root=/dev/vda1 ro quiet crashkernel=64K"
    assert machine.totalram == 1_000_000 << 10
    assert (machine.memfree, machine.memavailable) == (600_000 << 10, 700_000 << 10)
    assert machine.cpus == (CpuNotes(0, 0x3FC1B400, 368), CpuNotes(3, 0x3FD1B400, 368))
    assert machine.vmcoreinfo == NoteArea(0x3A001000, 0x1024)
    assert machine.page_offset_base == DIRECT_MAP
    assert machine.kernel_mapping == KernelMapping(
        0xFFFFFFFF81000000, PhysRange(0x2000000, 0x4000000)
    )
    assert machine.config == {
        "CONFIG_KEXEC": "y",
        "CONFIG_KEXEC_JUMP": "n",
        "CONFIG_LOCALVERSION": "",
    }
    assert machine.option("CONFIG_KEXEC_FILE") == "n"
    assert machine.architecture == "x86_64"
    assert machine.reload_rules == ("/usr/lib/udev/rules.d/50-kdump-tools.rules",)
    assert machine.kdump_units == ("kdump-tools.service",)
    assert machine.memory_blocks == MemoryBlocks(
        128 << 20, (MemoryBlock(5, 128 << 20, "online", ("DMA32",), 0),)
    )
    assert machine.balloons == ()
    assert machine.hugepages == (HugePagePool(2 << 20, 4, 0, 0, 0),)
    assert machine.hugepage_users == (HugePageUser(77, "qemu", 8 << 20),)
    assert machine.hugetlbfs_mounts == ("/dev/hugepages",)
    assert machine.pc.efi is None
    assert machine.secure_boot is False
    assert machine.lockdown == "none"
    assert machine.capabilities == frozenset(
        {"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYSLOG"}
    )
    assert machine.seccomp is False
    assert (machine.kexec.loaded, machine.kexec.crash_loaded) == (False, True)
    assert machine.kexec.crash_size == 65536
    assert machine.kexec.load_disabled is False
    assert machine.sysctls.panic == 10
    assert machine.sysctls.crash_kexec_post_notifiers is False
    assert machine.symbols == frozenset({"kexec_image", "kexec_crash_image", "relocate_kernel"})
    assert machine.symbols_hidden is False
    assert machine.cpu_flags == frozenset({"fpu", "lm", "pdpe1gb"})
    assert machine.pci_devices == (
        PciDevice("0000:00:00.0", 0x060000, True, ""),
        PciDevice("0000:00:03.0", 0x020000, True, "virtio-pci"),
        PciDevice("0000:00:04.0", 0x010000, False, ""),
    )
    assert machine.iommu_groups == 1
    assert machine.bootloader == BootLoader(
        "/etc/default/grub", "update-grub (or grub2-mkconfig -o /boot/grub2/grub.cfg)"
    )
    assert machine.kdump_service is None


UNKNOWN = [
    # sentence, changes, fact, the reason
    (
        "iomem shows zeros to all but root; its children are then unknown",
        {"/proc/iomem": ZEROS},
        "kernel_image",
        "/proc/iomem: addresses are hidden (they are zero without CAP_SYS_ADMIN)",
    ),
    (
        "a reservation that cannot be seen",
        {"/proc/iomem": ZEROS},
        "crash_kernel",
        "/proc/iomem: addresses are hidden (they are zero without CAP_SYS_ADMIN)",
    ),
    (
        "no map at all",
        {"/proc/iomem": None, **without("/sys/firmware/memmap")},
        "memory_map",
        "/proc/iomem: no such file or directory; /sys/firmware/memmap: no such file or directory",
    ),
    (
        "the firmware's map lacks RAM that EFI added",
        {"/proc/iomem": ZEROS, "/proc/cmdline": "quiet add_efi_memmap\n"},
        "memory_map",
        "/proc/iomem: addresses are hidden (they are zero without CAP_SYS_ADMIN); "
        "/sys/firmware/memmap: incomplete with add_efi_memmap",
    ),
    (
        "an entry of the firmware's map without its type",
        {"/proc/iomem": None, "/sys/firmware/memmap/1/type": None},
        "memory_map",
        "/proc/iomem: no such file or directory; /sys/firmware/memmap/1: cannot be read",
    ),
    (
        "iomem without any RAM, and no firmware map",
        {"/proc/iomem": "fee00000-fee00fff : Local APIC\n", **without("/sys/firmware/memmap")},
        "memory_map",
        "/proc/iomem: has no System RAM; /sys/firmware/memmap: no such file or directory",
    ),
    (
        "a kernel without crash notes",
        {"/sys/devices/system/cpu/cpu3/crash_notes": None},
        "cpus",
        "/sys/devices/system/cpu/cpu3/crash_notes: no such file or directory",
    ),
    (
        "notes that are not a number",
        {"/sys/devices/system/cpu/cpu0/crash_notes": "zz\n"},
        "cpus",
        "/sys/devices/system/cpu/cpu0/crash_notes: not a number: 'zz'",
    ),
    (
        "VMCOREINFO of size 0",
        {"/sys/kernel/vmcoreinfo": "0 0\n"},
        "vmcoreinfo",
        "/sys/kernel/vmcoreinfo: not an address and a size: '0 0'",
    ),
    (
        "no VMCOREINFO",
        {"/sys/kernel/vmcoreinfo": None},
        "vmcoreinfo",
        "/sys/kernel/vmcoreinfo: no such file or directory",
    ),
    (
        "no kcore",
        {"/proc/kcore": None},
        "page_offset_base",
        "/proc/kcore: no such file or directory",
    ),
    (
        "a kcore of 32 bits",
        {"/proc/kcore": b"\x7fELF\1".ljust(64, b"\0")},
        "page_offset_base",
        "/proc/kcore: not an ELF64 file",
    ),
    (
        "a kcore that is cut",
        {"/proc/kcore": kcore_headers((DIRECT_MAP, 0, 0x1000))[:-1]},
        "page_offset_base",
        "/proc/kcore: ends within its program headers",
    ),
    (
        "a kcore without physical addresses (before 4.11: all zeros)",
        {"/proc/kcore": kcore_headers((DIRECT_MAP, 0, 4096), (DIRECT_MAP + 8192, 0, 4096))},
        "page_offset_base",
        "/proc/kcore: the program headers do not show the direct map",
    ),
    (
        "a kcore without RAM",
        {"/proc/kcore": kcore_headers((0xFFFFC90000000000, NO_PADDR, 4096))},
        "page_offset_base",
        "/proc/kcore: the program headers do not show the direct map",
    ),
    (
        "a kcore that ends before the offsets of the CPUs",
        {"/proc/kcore": KCORE_HEADERS},
        "per_cpu",
        "/proc/kcore: does not have 8 bytes at 0x1800",
    ),
    (
        "a kcore whose memory would lie beyond any file",
        {"/proc/kcore": kcore_headers(TEXT, (DIRECT_MAP, 0, 4096), offset=(1 << 64) - 1)},
        "per_cpu",
        "/proc/kcore: does not have 8 bytes at 0x100000000000007ff",
    ),
    (
        "per-CPU data that is not in the direct map",
        {"/proc/kcore": KCORE_HEADERS.ljust(0x2000, b"\0")},
        "per_cpu",
        "/proc/kcore: the data of CPU 0 is not in the direct map",
    ),
    (
        "per-CPU data without an end",
        {"/proc/kallsyms": KALLSYMS.replace("2d800 A", "00000 A")},
        "per_cpu",
        "/proc/kallsyms: does not list __per_cpu_offset, __per_cpu_start, __per_cpu_end",
    ),
    (
        "boot_params of another size",
        {"/sys/kernel/boot_params/data": b"\0" * 100},
        "firmware.boot_params",
        "/sys/kernel/boot_params/data: 100 bytes, not 4096",
    ),
    (
        "no build options anywhere",
        {"/boot/config-6.1.0-40-amd64": None},
        "config",
        "/proc/config.gz: no such file or directory; "
        "/boot/config-6.1.0-40-amd64: no such file or directory; "
        "/lib/modules/6.1.0-40-amd64/config: no such file or directory",
    ),
    (
        "a release that would be a path",
        {"/proc/sys/kernel/osrelease": "../../etc/shadow\n"},
        "config",
        "/proc/config.gz: no such file or directory; not a file name: '../../etc/shadow'",
    ),
    (
        "build options that are not gzip",
        {"/proc/config.gz": b"CONFIG_KEXEC=y"},
        "config",
        "/proc/config.gz: Error -3 while decompressing data: incorrect header check",
    ),
    (
        "lockdown without a mark",
        {"/sys/kernel/security/lockdown": "none integrity\n"},
        "lockdown",
        "/sys/kernel/security/lockdown: no level is marked: 'none integrity'",
    ),
    (
        "no symbols",
        {"/proc/kallsyms": ""},
        "symbols",
        "/proc/kallsyms: empty",
    ),
    (
        "MemTotal is not there",
        {"/proc/meminfo": "MemFree: 1 kB\n"},
        "totalram",
        "/proc/meminfo: has no MemTotal",
    ),
    (
        "no boot loader is known",
        {"/etc/default/grub": None, "/etc/hostname": "x"},
        "bootloader",
        "no known boot loader configuration",
    ),
    (
        "a BIOS machine hands no RSDP over",
        {},
        "firmware.acpi_rsdp",
        "not in the command line, boot_params or the EFI systab (on a BIOS machine, each "
        "kernel finds it below 1 MiB)",
    ),
]


@pytest.mark.parametrize(
    ("changes", "fact", "why"), [row[1:] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN]
)
def test_unknown(
    tree: MakeTree, changes: dict[str, str | bytes | None], fact: str, why: str
) -> None:
    assert attrgetter(fact)(read_machine(tree(changes))) == Unknown(why)


def test_ram_where_no_processor_reaches_is_left_out(tree: MakeTree) -> None:
    iomem = "00100000-3fffffff : System RAM\n100000000-fffffffffffffffe : System RAM\n"
    machine = read_machine(tree({"/proc/iomem": iomem}))
    assert machine.known_map.ram.ranges[-1] == PhysRange(1 << 32, 1 << 52)
    assert machine.out_of_reach == RangeSet((PhysRange(1 << 52, (1 << 64) - 1),))
    (row,) = [row for row in diagnose(machine) if row.name == "memory map"]
    assert "above 2^52 are omitted" in row.evidence


@pytest.mark.parametrize("size", ["0", "400001", "ffffffff"])
def test_a_note_that_no_capture_kernel_takes(tree: MakeTree, size: str) -> None:
    found = read_machine(tree({"/sys/kernel/vmcoreinfo": f"2000 {size}\n"})).vmcoreinfo
    assert found == Unknown(f"/sys/kernel/vmcoreinfo: not an address and a size: '2000 {size}'")


def test_a_number_has_64_bits(tree: MakeTree) -> None:
    path = "/sys/devices/system/cpu/cpu0/crash_notes_size"
    found = read_machine(tree({path: "18446744073709551616\n"})).cpus
    assert found == Unknown(f"{path}: not a number: '18446744073709551616'")


@pytest.mark.parametrize(
    ("file", "line"),
    [("a  b\n", "a  b"), (" a b \t\n", " a b \t"), ("a\n\n", "a\n"), ("a", "a"), ("\n", "")],
)
def test_the_command_line_is_what_the_kernel_has(tree: MakeTree, file: str, line: str) -> None:
    """Everything but the newline of cmdline_proc_show: IMA measures it."""
    assert read_machine(tree({"/proc/cmdline": file})).cmdline == line


def test_empty_folder_is_all_unknown(tmp_path: Path) -> None:
    machine = read_machine(Folder(tmp_path))
    known = {
        name: fact
        for name, fact in {**vars(machine), **facts_of(machine.pc)}.items()
        if name not in ("name", "memory_map_source", "firmware", "kexec", "modules", "sysctls")
        and not isinstance(fact, Unknown)
    }
    assert known == {}


def test_nothing_reserved_is_known_to_all(tree: MakeTree) -> None:
    machine = read_machine(tree({"/proc/iomem": ZEROS, "/sys/kernel/kexec_crash_size": "0\n"}))
    assert machine.crash_kernel == RangeSet()


def test_new_names_come_first(tree: MakeTree) -> None:
    machine = read_machine(
        tree({"/sys/kernel/kexec/loaded": "1\n", "/sys/kernel/kexec/crash_size": "4096\n"})
    )
    assert machine.kexec.loaded is True
    assert machine.kexec.crash_size == 4096
    assert machine.kexec.crash_loaded is True


def test_hidden_symbols(tree: MakeTree) -> None:
    text = "0000000000000000 T _text\n0000000000000000 d kexec_pa_swap_page\n"
    machine = read_machine(tree({"/proc/kallsyms": text}))
    assert machine.symbols == frozenset({"kexec_pa_swap_page"})
    assert machine.symbols_hidden is True
    assert isinstance(machine.per_cpu, Unknown)


def test_kernel_without_lockdown(tree: MakeTree) -> None:
    assert read_machine(tree({"/sys/kernel/security/lockdown": None})).lockdown == "none"


def test_limits_of_6_3(tree: MakeTree) -> None:
    machine = read_machine(
        tree(
            {
                "/proc/sys/kernel/kexec_load_limit_panic": "2\n",
                "/proc/sys/kernel/kexec_load_limit_reboot": "-1\n",
            }
        )
    )
    assert (machine.kexec.load_limit_panic, machine.kexec.load_limit_reboot) == (2, -1)


def test_config_gz_comes_first(tree: MakeTree) -> None:
    machine = read_machine(tree({"/proc/config.gz": gzip.compress(b"CONFIG_KEXEC=m\n")}))
    assert machine.config == {"CONFIG_KEXEC": "m"}


def test_gunzip_is_bounded() -> None:
    bomb = gzip.compress(bytes(GUNZIP_MAX + 1))
    assert gunzip(bomb, GUNZIP_MAX) == Unknown(
        f"/proc/config.gz: truncated, or larger than {GUNZIP_MAX} bytes"
    )
    assert gunzip(gzip.compress(bytes(GUNZIP_MAX)), GUNZIP_MAX) == bytes(GUNZIP_MAX)


def test_machine_that_runs_this() -> None:
    machine = read_machine()
    assert machine.name == "this machine"
    assert isinstance(machine.release, str)
    assert isinstance(machine.totalram, int)


def test_assumed_map_says_so(tree: MakeTree) -> None:
    machine = read_machine(tree({"/proc/iomem": None, **without("/sys/firmware/memmap")}))
    assumed = machine.with_assumed_map()
    assert not isinstance(assumed.memory_map, Unknown)
    assert assumed.memory_map.ram.size == 1_000_000 << 10
    assert assumed.memory_map_source == (
        "assumed from MemTotal (/proc/iomem: no such file or directory; "
        "/sys/firmware/memmap: no such file or directory)"
    )


def test_known_map_is_not_assumed(tree: MakeTree) -> None:
    machine = read_machine(tree({}))
    assert machine.with_assumed_map() is machine
    assert Machine("m").with_assumed_map() == Machine("m")


@pytest.mark.parametrize(
    ("kallsyms", "cpuinfo", "expected"),
    [
        ("ffffffff81000000 T _text\n", "flags\t\t: fpu lm pae\n", "x86_64"),
        ("0000000000000000 T _text\n", "flags\t\t: fpu lm pae\n", "x86_64"),
        (None, "flags\t\t: fpu lm pae\n", "x86_64"),
        ("c1000000 T _text\n", "flags\t\t: fpu lm pae\n", "i686"),
        (None, "flags\t\t: fpu pae\n", "i686"),
    ],
)
def test_the_architecture_before_linux_6_1(
    tree: MakeTree, kallsyms: str | None, cpuinfo: str, expected: str
) -> None:
    """A 64-bit processor may run a 32-bit kernel."""
    files = {"/proc/kallsyms": kallsyms, "/proc/cpuinfo": cpuinfo, "/proc/sys/kernel/arch": None}
    machine = read_machine(tree({**files, "/sys/kernel/boot_params/version": "0x020f\n"}))
    assert machine.architecture == expected
    assert (machine.arch is I386) == (expected == "i686")


def test_a_command_line_that_is_no_utf8_comes_out_as_it_came_in(tree: MakeTree) -> None:
    """And a no-break space in valid UTF-8 does not end a word."""
    raw = b'name=caf\xe9 quoted="\xff\xfe" a=\xc2\xa0b \xe2\x82\xac'
    machine = read_machine(tree({"/proc/cmdline": raw + b"\n"}))
    assert isinstance(machine.cmdline, str)
    assert command_line(running=machine.cmdline).encoded == raw + b"\0"


NO_KEXEC: dict[str, str | bytes | None] = {
    f"/sys/kernel/kexec_{name}": None for name in ("loaded", "crash_loaded", "crash_size")
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        (NO_KEXEC | {"/sys/kernel/kexec/loaded": "0\n"}, True),
        (NO_KEXEC | {"/sys/kernel/fscaps": "1\n"}, False),
        (NO_KEXEC, None),
    ],
)
def test_whether_the_kernel_has_kexec_at_all(
    tree: MakeTree, changes: dict[str, str | bytes | None], expected: bool | None
) -> None:
    """An incomplete folder, as of a captured machine, proves nothing."""
    found = read_machine(tree(changes)).kexec.in_kernel
    assert found is expected if expected is not None else isinstance(found, Unknown)


def test_what_only_a_crash_by_normal_needs_is_left_alone(tree: MakeTree) -> None:
    """Two files for each memory block, and all of /proc/kallsyms."""
    root = Recorder(tree({}))
    machine = read_machine(root, symbols=False)
    assert isinstance(machine.memory_blocks, Unknown)
    assert isinstance(machine.symbols, Unknown)
    read = (*root.files, *root.folders)
    assert not [path for path in read if "/devices/system/memory" in path or "kallsyms" in path]
