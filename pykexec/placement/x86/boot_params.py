"""boot_params (the zero page), followed by the command line and setup_data, in one segment.

Documentation/arch/x86/boot.rst; struct boot_params in asm/bootparam.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pykexec.abi.x86.bootparam import (
    BOOT_PARAMS_SIZE,
    E820_MAX_ENTRIES_ZEROPAGE,
    LOADER_TYPE_KEXEC,
    SETUP_HEADER_MAX,
    BootParamsField,
    E820Type,
    SetupType,
    boot_params,
    e820_entry,
    setup_data,
    setup_header,
)
from pykexec.frozen import dataclass
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import PhysRange, align_up
from pykexec.placement.x86.efi import EFI_INFO_SIZE, EfiHandover

if TYPE_CHECKING:
    from pykexec.images.kernel_image import Linux32Boot, LinuxX86Boot
    from pykexec.machine import Machine
    from pykexec.placement.cmdline import CommandLine

INHERITED = (
    "screen_info",
    "eddbuf_entries",
    "edd_mbr_sig_buf_entries",
    "secure_boot",
    "edd_mbr_sig_buffer",
    "eddbuf",
)
"""The console's mode, and what the BIOS reported about disks, which cannot be read again without
real mode."""

LOW32 = (1 << 32) - 1
NODE_ALIGN = 16
HAS_SETUP_DATA = 0x209
"""The boot protocol version that added setup_data."""

E820_TYPES = {
    RangeType.RAM: E820Type.E820_TYPE_RAM,
    RangeType.RESERVED: E820Type.E820_TYPE_RESERVED,
    RangeType.ACPI: E820Type.E820_TYPE_ACPI,
    RangeType.NVS: E820Type.E820_TYPE_NVS,
    RangeType.UNUSABLE: E820Type.E820_TYPE_UNUSABLE,
    RangeType.PMEM: E820Type.E820_TYPE_PMEM,
    RangeType.PRAM: E820Type.E820_TYPE_PRAM,
    RangeType.SOFT_RESERVED: E820Type.E820_TYPE_SOFT_RESERVED,
}


@dataclass(frozen=True, slots=True)
class SetupData:
    """One node of the setup_data list (asm/setup_data.h), before it has an address."""

    type: SetupType
    data: bytes


@dataclass(frozen=True, slots=True)
class BootParams:
    """The contents of the segment without its address, so that its size is known first."""

    setup_header: bytes
    """The image's bytes from 0x1f1."""
    cmdline: CommandLine
    memory_map: MemoryMap
    """The source of its e820 table."""
    setup_data: tuple[SetupData, ...] = ()
    running: bytes = bytes(BOOT_PARAMS_SIZE)
    """The running kernel's boot_params, for what the next kernel cannot get from the firmware
    again."""
    acpi_rsdp: int = 0
    efi: EfiHandover | None = None

    @property
    def size(self) -> int:
        """Bytes of the segment: zero page, command line, setup_data nodes, EFI runtime map."""
        memmap = len(self.efi.memmap) if self.efi else 0
        return _node_offsets(self.cmdline, self.nodes)[-1] + memmap

    @property
    def nodes(self) -> tuple[SetupData, ...]:
        """The nodes, including one for e820 entries that do not fit into the zero page."""
        efi = (SetupData(SetupType.SETUP_EFI, self.efi.setup),) if self.efi else ()
        nodes = (*self.setup_data, *efi)
        beyond = self.memory_map.ranges[E820_MAX_ENTRIES_ZEROPAGE:]
        if not beyond:
            return nodes
        table = SetupData(SetupType.SETUP_E820_EXT, _encode_e820(MemoryMap(beyond)))
        return (table, *nodes)

    def encode(self, at: int, initrd: PhysRange | None, initrd_size: int = 0) -> bytes:
        """The segment's bytes for the address `at`, with the initrd's bytes at `initrd.start`."""
        *offsets, memmap_offset = _node_offsets(self.cmdline, self.nodes)
        image = bytearray(self.size)
        image[:BOOT_PARAMS_SIZE] = self.zero_page(at, offsets, initrd, initrd_size)
        line = self.cmdline.encoded
        image[BOOT_PARAMS_SIZE : BOOT_PARAMS_SIZE + len(line)] = line
        for number, (node, offset) in enumerate(zip(self.nodes, offsets, strict=True)):
            following = at + offsets[number + 1] if number + 1 < len(offsets) else 0
            head = setup_data.build({"next": following, "type": node.type, "len": len(node.data)})
            image[offset : offset + len(head) + len(node.data)] = head + node.data
        if self.efi:
            info = BootParamsField.EFI_INFO
            image[info : info + EFI_INFO_SIZE] = self.efi.encode(at + memmap_offset)
            image[memmap_offset:] = self.efi.memmap
        return bytes(image)

    def zero_page(
        self, at: int, offsets: Sequence[int], initrd: PhysRange | None, initrd_size: int
    ) -> bytes:
        """struct boot_params: zeros (including the sentinel), except what a loader sets."""
        cmdline_at = at + BOOT_PARAMS_SIZE
        ramdisk_at, ramdisk_size = (initrd.start, initrd_size) if initrd else (0, 0)
        header = setup_header.parse(self.setup_header)
        header.type_of_loader = LOADER_TYPE_KEXEC
        header.ramdisk_image, header.ramdisk_size = ramdisk_at & LOW32, ramdisk_size & LOW32
        header.cmd_line_ptr = cmdline_at & LOW32
        header.setup_data = at + offsets[0] if offsets else 0
        known = setup_header.build(header)
        in_page = MemoryMap(self.memory_map.ranges[:E820_MAX_ENTRIES_ZEROPAGE])
        fields = boot_params.parse(bytes(BOOT_PARAMS_SIZE))
        inherited = boot_params.parse(self.running)
        for name in INHERITED:
            setattr(fields, name, inherited[name])
        fields.acpi_rsdp_addr = self.acpi_rsdp
        fields.ext_ramdisk_image, fields.ext_ramdisk_size = ramdisk_at >> 32, ramdisk_size >> 32
        fields.ext_cmd_line_ptr = cmdline_at >> 32
        fields.e820_entries = len(in_page.ranges)
        fields.hdr = (known + self.setup_header[len(known) :]).ljust(SETUP_HEADER_MAX, b"\0")
        fields.e820_table = _encode_e820(in_page).ljust(len(fields.e820_table), b"\0")
        page: bytes = boot_params.build(fields)
        return page


def boot_params_for(
    boot: LinuxX86Boot | Linux32Boot,
    machine: Machine,
    rng_seed: bytes,
    line: CommandLine,
    memory_map: MemoryMap,
) -> BootParams:
    """For every Linux, by either entry; EFI is not handed over."""
    seed = SetupData(SetupType.SETUP_RNG_SEED, rng_seed)
    return BootParams(
        setup_header=boot.setup_header,
        cmdline=line,
        memory_map=memory_map,
        setup_data=(seed,) if boot.protocol >= HAS_SETUP_DATA else (),
        running=inheritable(machine.pc.boot_params or b""),
        acpi_rsdp=machine.pc.acpi_rsdp or 0,
    )


def _node_offsets(cmdline: CommandLine, nodes: Sequence[SetupData]) -> list[int]:
    """The offset of each setup_data node in the segment, and finally the segment's size."""
    offsets = [align_up(BOOT_PARAMS_SIZE + len(cmdline.encoded), NODE_ALIGN)]
    for node in nodes:
        size: int = setup_data.sizeof() + len(node.data)
        offsets.append(align_up(offsets[-1] + size, NODE_ALIGN))
    return offsets


def _encode_e820(memory_map: MemoryMap) -> bytes:
    """struct boot_e820_entry for each range."""
    return b"".join(
        e820_entry.build(
            {"addr": item.range.start, "size": item.range.size, "type": E820_TYPES[item.type]}
        )
        for item in memory_map.ranges
    )


def inheritable(running: bytes) -> bytes:
    """boot_params of the running kernel, with the sentinel that a boot loader may have left."""
    page = bytearray(running[:BOOT_PARAMS_SIZE].ljust(BOOT_PARAMS_SIZE, b"\0"))
    page[BootParamsField.SENTINEL] = 0
    return bytes(page)
