"""What a second kernel on an EFI machine needs to keep using the firmware's services.

arch/x86/kernel/kexec-bzimage64.c:setup_efi_state. The running kernel has called
SetVirtualAddressMap, which works only once per boot: the next kernel uses the virtual addresses in
the runtime map, and finds the tables through SETUP_EFI.
"""

from __future__ import annotations

from pykexec.abi.efi import EFI64_LOADER_SIGNATURE, EFI_MEMDESC_VERSION, efi_memory_desc
from pykexec.abi.x86.bootparam import BootParamsField, Xlf, efi_info, efi_setup_data
from pykexec.frozen import dataclass
from pykexec.machine import Efi, Machine, Unknown

EFI_INFO_SIZE = 0x20


@dataclass(frozen=True, slots=True)
class EfiHandover:
    """`running` is the first kernel's struct efi_info; `memmap` the runtime map's bytes."""

    running: bytes
    memmap: bytes
    setup: bytes
    """struct efi_setup_data."""

    def encode(self, memmap_at: int) -> bytes:
        """struct efi_info for a runtime map at this physical address."""
        fields = efi_info.parse(self.running)
        fields.efi_memmap = memmap_at & 0xFFFFFFFF
        fields.efi_memmap_hi = memmap_at >> 32
        fields.efi_memmap_size = len(self.memmap)
        raw: bytes = efi_info.build(fields)
        return raw


def efi_handover(machine: Machine, xloadflags: int) -> EfiHandover | None:
    """None if the machine did not boot through EFI, the image does not support this
    (XLF_EFI_KEXEC), or a fact is missing: then the next kernel does not use the services."""
    efi, params = machine.pc.efi, machine.pc.boot_params
    if not isinstance(efi, Efi) or isinstance(params, Unknown):
        return None
    if not xloadflags & Xlf.XLF_EFI_KEXEC or not efi.runtime_map:
        return None
    at = BootParamsField.EFI_INFO
    running = params[at : at + EFI_INFO_SIZE]
    info = efi_info.parse(running)
    if (
        info.efi_loader_signature != EFI64_LOADER_SIGNATURE
        or info.efi_memdesc_version != EFI_MEMDESC_VERSION
        or info.efi_memdesc_size < efi_memory_desc.sizeof()
    ):
        return None
    tables = (efi.fw_vendor, efi.runtime, efi.config_table)
    if any(isinstance(fact, Unknown) for fact in tables):
        return None
    return EfiHandover(running, memmap(efi, info.efi_memdesc_size), _setup_efi(efi))


def memmap(efi: Efi, desc_size: int) -> bytes:
    """The runtime map as an array of struct efi_memory_desc_t, `desc_size` bytes each."""
    return b"".join(
        efi_memory_desc.build(
            {
                "type": item.type,
                "phys_addr": item.phys_addr,
                "virt_addr": item.virt_addr,
                "num_pages": item.num_pages,
                "attribute": item.attribute,
            }
        ).ljust(desc_size, b"\0")
        for item in efi.runtime_map
    )


def _setup_efi(efi: Efi) -> bytes:
    """struct efi_setup_data: where the firmware's tables were before they were moved."""
    built: bytes = efi_setup_data.build(
        {
            "fw_vendor": efi.fw_vendor,
            "tables": efi.config_table,
            "smbios": efi.systab.get("SMBIOS", 0),
        }
    )
    return built
