"""The result of `inspect` for a zero page (struct boot_params)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Table
from pykexec.cli.report.file_parts import in_words
from pykexec.documents.files import E820Row, ZeroPageFields

if TYPE_CHECKING:
    from pykexec.images.x86.zero_page import ZeroPage

SIZES = ("ramdisk_size", "init_size")
"""The other numbers are addresses and bit fields."""


@dataclass(frozen=True)
class ZeroPageReport:
    """The fields, with the names of struct boot_params."""

    found: ZeroPage

    def document(self) -> ZeroPageFields:
        found = self.found
        return ZeroPageFields(
            protocol=found.protocol,
            type_of_loader=found.type_of_loader,
            loadflags=found.loadflags,
            xloadflags=found.xloadflags,
            cmd_line_ptr=found.cmd_line_ptr,
            ramdisk_image=found.ramdisk_image,
            setup_data=found.setup_data,
            acpi_rsdp=found.acpi_rsdp,
            pref_address=found.pref_address,
            ramdisk_size=found.ramdisk_size,
            init_size=found.init_size,
            efi=found.efi,
            screen=found.screen,
            e820=tuple(E820Row(row.start, row.end, row.type) for row in found.e820),
        )

    def page(self, verbose: int) -> list[Block]:
        facts = [("type", "boot_params (zero page)")]
        shown = self.document()
        for field in fields(shown):
            value = getattr(shown, field.name)
            if field.name in SIZES:
                facts.append((field.name, in_words(value)))
            elif field.name != "e820":
                number = isinstance(value, int)
                facts.append((field.name, hex(value) if number else in_words(value)))
        rows = [(f"{row.start:#x}", f"{row.end:#x}", row.type) for row in self.found.e820]
        return [Facts(facts), Table(("start", "end", "type"), rows)]
