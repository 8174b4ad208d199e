"""The sections of a PE file, as far as needed for an image inside one."""

from __future__ import annotations

from pykexec.abi.pe import (
    IMAGE_FILE_MACHINE,
    MZ_MAGIC,
    PE_MAGIC,
    PE_OFFSET_AT,
    coff_header,
    section_header,
)
from pykexec.frozen import dataclass
from pykexec.images.contents import FileSpan, InnerFile, OpenFile
from pykexec.images.kernel_image import Refused

MAX_SECTIONS = 96
"""The limit of Windows; a UKI has a dozen or two."""


@dataclass(frozen=True, slots=True)
class Section:
    """`size` bytes of contents at `offset` in the file; padding is not counted."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PeFile:
    """A PE file whose headers are inside the file; so are its sections unless it is `truncated`."""

    file: OpenFile
    machine: str
    """As in uname -m, or the COFF number."""
    sections: tuple[Section, ...]
    truncated: str | None = None
    """A description of the first section that is not inside the file."""

    def contents(self, section: Section | None) -> FileSpan | None:
        """A section's bytes, if it has any."""
        return self.file.span(section.offset, section.size) if section and section.size else None

    def inner(self, section: Section) -> InnerFile | None:
        """A section as a file, if it has any bytes."""
        return InnerFile(self.file, section.offset, section.size) if section.size else None


def read_pe(file: OpenFile) -> PeFile | Refused:
    """Refused if a header is not inside the file. Whether a truncated section matters is up to the
    caller, who knows the sections."""
    if file.size < PE_OFFSET_AT + 4 or file.read(0, 2) != MZ_MAGIC:
        return Refused("no MZ magic: not a PE file")
    at = int.from_bytes(file.read(PE_OFFSET_AT, 4), "little")
    head_size = coff_header.sizeof()
    if at + head_size > file.size or file.read(at, 4) != PE_MAGIC:
        return Refused(f"no PE header at {at:#x}")
    head = coff_header.parse(file.read(at, head_size))
    count, row = head.number_of_sections, section_header.sizeof()
    table = at + head_size + head.size_of_optional_header
    if count > MAX_SECTIONS or table + count * row > file.size:
        return Refused(f"{count} PE sections at {table:#x}, the file ends at {file.size:#x}")
    raw = file.read(table, count * row)
    sections, truncated = [], None
    for n in range(count):
        item = section_header.parse(raw[n * row : (n + 1) * row])
        name = item.name.rstrip(b"\0").decode("ascii", "replace")
        size = min(item.virtual_size or item.size_of_raw_data, item.size_of_raw_data)
        if size and item.pointer_to_raw_data + size > file.size:
            truncated = truncated or (
                f"truncated: section {name} ends at {item.pointer_to_raw_data + size:#x}, the "
                f"file at {file.size:#x}"
            )
        sections.append(Section(name, item.pointer_to_raw_data, size))
    machine = IMAGE_FILE_MACHINE.get(head.machine, f"COFF machine {head.machine:#x}")
    return PeFile(file, machine, tuple(sections), truncated)
