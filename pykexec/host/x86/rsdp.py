"""The ACPI root system description pointer itself, if /dev/mem shows it: an image that is not Linux
may request a copy (ACPI 6.5, 5.2.5.3; multiboot 2, tags 14 and 15).

CONFIG_STRICT_DEVMEM allows reading memory other than RAM (arch/x86/mm/init.c:devmem_is_allowed),
such as the firmware's tables.
"""

from __future__ import annotations

from pykexec.abi.acpi import RSDP_MAGIC, RSDP_SIZE, RSDP_V1_SIZE, acpi_rsdp
from pykexec.host.root import MEMORY, Root
from pykexec.machine import Unknown


def rsdp_table(root: Root, address: int | Unknown, lockdown: str | Unknown) -> bytes | Unknown:
    """20 bytes of an ACPI 1.0 pointer, or 36; checked by its magic and checksums."""
    if isinstance(address, Unknown):
        return address
    if lockdown in ("integrity", "confidentiality"):
        return Unknown(f"{MEMORY} is disabled by lockdown={lockdown}")
    raw = root.part(MEMORY, address, RSDP_SIZE)
    if isinstance(raw, Unknown):
        return raw
    where = f"{MEMORY} at {address:#x}"
    if not raw.startswith(RSDP_MAGIC) or sum(raw[:RSDP_V1_SIZE]) & 0xFF:
        return Unknown(f"{where}: no RSDP with a valid checksum")
    fields = acpi_rsdp.parse(raw)
    if fields.revision < 2:
        return raw[:RSDP_V1_SIZE]
    if fields.length != RSDP_SIZE or sum(raw) & 0xFF:
        return Unknown(
            f"{where}: the RSDP has an invalid length of {fields.length:#x} bytes or an "
            "invalid checksum"
        )
    return raw
