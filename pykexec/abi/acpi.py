"""The root system description pointer: ACPI 6.5, 5.2.5.3."""

from __future__ import annotations

from pykexec.abi.record import Bytes, Int8ul, Int32ul, Int64ul, Struct

RSDP_MAGIC = b"RSD PTR "

acpi_rsdp = Struct(
    "signature" / Bytes(8),
    "checksum" / Int8ul,
    "oem_id" / Bytes(6),
    "revision" / Int8ul,
    "rsdt_physical_address" / Int32ul,
    "length" / Int32ul,
    "xsdt_physical_address" / Int64ul,
    "extended_checksum" / Int8ul,
    "reserved" / Bytes(3),
)
RSDP_SIZE: int = acpi_rsdp.sizeof()
RSDP_V1_SIZE = 20
"""Bytes up to and including the address of the RSDT: the complete RSDP of ACPI 1.0, whose checksum
covers them."""
