"""All facts of a machine at once: `read_machine` gives the value that plans are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.arch import ARM64
from pykexec.host import (
    console,
    devices,
    firmware,
    iommu,
    kernel_map,
    kexec,
    memory,
    memory_blocks,
    module,
    others,
    running_kernel,
    tsc,
)
from pykexec.host.arm64.boot_memory import boot_memory
from pykexec.host.arm64.console import stdout_uart
from pykexec.host.arm64.firmware import device_tree_firmware
from pykexec.host.firmware import secure_boot_variable
from pykexec.host.page_size import page_size
from pykexec.host.root import THIS_MACHINE, Root, text
from pykexec.host.x86 import encryption
from pykexec.host.x86.firmware import pc_firmware, secure_boot
from pykexec.machine import NOT_READ, DeviceTreeFirmware, Machine, PcFirmware, Unknown

if TYPE_CHECKING:
    from pykexec.memory.map import MemoryMap


def read_machine(root: Root = THIS_MACHINE, symbols: bool = True) -> Machine:
    """Raises nothing: an unreadable fact is Unknown, with the reason.

    Without `symbols`, facts are left out that take long to read and that only a crash by normal
    needs: /proc/kallsyms, the memory blocks (thousands on a large machine), and the processes that
    have huge pages.

    As root on a live machine everything is known; without privilege, the memory map is that of the
    firmware, and the addresses of kernel, reservation and notes are Unknown.
    """
    release = text(root, "/proc/sys/kernel/osrelease", 4096)
    cmdline = _command_line(root)
    config = running_kernel.config(root, release)
    lines = memory.iomem_lines(root)
    architecture = running_kernel.architecture(root)
    maps = memory.memory_maps(root, lines, cmdline, held=architecture in ARM64.unames)
    meminfo = memory.meminfo(root)
    state = kexec.kexec_state(root)
    lockdown = kexec.lockdown(root, config)
    given = _firmware(root, architecture, maps, cmdline, lockdown)
    cpus = devices.cpu_notes(root)
    loads = kernel_map.kcore_loads(root)
    table = running_kernel.symbol_table(root, architecture, loads) if symbols else NOT_READ
    page = page_size(root, architecture, config)
    return Machine(
        name=root.name,
        memory_map=_running_map(root, maps.running, given, loads),
        memory_map_source=maps.source,
        out_of_reach=maps.out_of_reach,
        kernel_image=memory.kernel_image(lines),
        per_cpu=kernel_map.per_cpu_areas(root, table, cpus, loads, page),
        crash_kernel=memory.crash_kernel(lines, state.crash_size),
        release=release,
        cmdline=cmdline,
        totalram=memory.memory_size(meminfo, "MemTotal"),
        cpus=cpus,
        vmcoreinfo=running_kernel.vmcoreinfo(root),
        page_offset_base=kernel_map.page_offset_base(loads),
        kernel_mapping=kernel_map.kernel_mapping(loads),
        firmware=given,
        config=config,
        architecture=architecture,
        page_size=page,
        memfree=memory.memory_size(meminfo, "MemFree"),
        memavailable=memory.memory_size(meminfo, "MemAvailable"),
        memory_blocks=memory_blocks.memory_blocks(root) if symbols else NOT_READ,
        balloons=memory_blocks.balloons(root),
        swap_in_memory=memory_blocks.swap_in_memory(root),
        hugepages=memory.hugepage_pools(root),
        hugepage_users=memory.hugepage_users(root) if symbols else NOT_READ,
        hugetlbfs_mounts=memory.hugetlbfs_mounts(root),
        secure_boot=_secure_boot(root, given),
        lockdown=lockdown,
        capabilities=kexec.capabilities(root),
        seccomp=kexec.seccomp(root),
        kexec=state,
        modules=module.modules(root, release),
        sysctls=running_kernel.sysctls(root),
        symbols=running_kernel.telling_symbols(table),
        symbols_hidden=running_kernel.symbols_hidden(table),
        cpu_flags=devices.cpu_flags(root),
        tsc_khz=tsc.tsc_khz(root, table, loads),
        sme_mask=encryption.sme_mask(root),
        snp_guest=_snp_guest(root, given),
        pci_devices=devices.pci_devices(root),
        iommu_groups=devices.iommu_groups(root),
        iommus=iommu.iommus(root, loads),
        console=console.console(root, cmdline, stdout_uart(given)),
        bootloader=firmware.bootloader(root),
        kdump_service=firmware.kdump_service(root),
        reload_rules=others.reload_rules(root),
        kdump_units=others.kdump_units(root),
    )


def _firmware(
    root: Root,
    architecture: str | Unknown,
    maps: memory.Maps,
    cmdline: str | Unknown,
    lockdown: str | Unknown,
) -> PcFirmware | DeviceTreeFirmware:
    """Of the kind that this architecture has; of a PC if that is unknown."""
    if architecture in ARM64.unames:
        return device_tree_firmware(root)
    return pc_firmware(root, maps.firmware, cmdline, lockdown)


def _running_map(
    root: Root,
    found: MemoryMap | Unknown,
    given: PcFirmware | DeviceTreeFirmware,
    loads: tuple[kernel_map.KcoreLoad, ...] | Unknown,
) -> MemoryMap | Unknown:
    """On arm64 the next kernel gets no memory map, and asks the firmware's; a PC's gets one."""
    if isinstance(found, Unknown) or not isinstance(given, DeviceTreeFirmware):
        return found
    memory = boot_memory(root, given, loads)
    return found if isinstance(memory, Unknown) else found.booted_with(memory)


def _secure_boot(root: Root, given: PcFirmware | DeviceTreeFirmware) -> bool | Unknown:
    if isinstance(given, DeviceTreeFirmware):
        return secure_boot_variable(root, given.efi)
    return secure_boot(root, given)


def _snp_guest(root: Root, given: PcFirmware | DeviceTreeFirmware) -> bool | Unknown:
    if isinstance(given, DeviceTreeFirmware):
        return False
    return encryption.snp_guest(root, given.boot_params)


def _command_line(root: Root) -> str | Unknown:
    """Without the newline that cmdline_proc_show adds. Bytes that are not UTF-8 are preserved with
    surrogateescape: the next kernel gets these bytes."""
    found = root.read("/proc/cmdline", 1 << 16)
    if isinstance(found, Unknown):
        return found
    return found.removesuffix(b"\n").decode(errors="surrogateescape")
