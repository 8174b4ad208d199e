"""ELF notes: NT_PRSTATUS of each CPU and VMCOREINFO (Documentation/admin-guide/kdump)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.abi.elf import ELF_PRSTATUS_SIZE, NHDR, NT_PRSTATUS
from pykexec.frozen import dataclass
from pykexec.machine import NoteArea
from pykexec.memory.ranges import PhysRange, align_up

if TYPE_CHECKING:
    from pykexec.crash.backup_map import BackupMap

CORE = b"CORE"
VMCOREINFO = b"VMCOREINFO"


@dataclass(frozen=True, slots=True)
class Note:
    """One ELF note: name without its NUL, type and descriptor."""

    name: bytes
    type: int
    desc: bytes

    @property
    def encoded(self) -> bytes:
        """As it is in memory: header, name and descriptor, each padded to 4 bytes."""
        name = self.name + b"\0"
        return b"".join(
            (
                NHDR.pack(len(name), len(self.desc), self.type),
                name.ljust(align_up(len(name), 4), b"\0"),
                self.desc.ljust(align_up(len(self.desc), 4), b"\0"),
            )
        )


CPU_NOTE_SIZE = len(Note(CORE, NT_PRSTATUS, bytes(ELF_PRSTATUS_SIZE)).encoded) + NHDR.size
"""Size of a crash_notes area: one NT_PRSTATUS, and an empty header that ends the list."""

VMCOREINFO_BYTES = 4096
VMCOREINFO_NOTE_SIZE = len(Note(VMCOREINFO, 0, bytes(VMCOREINFO_BYTES)).encoded) + NHDR.size
"""Size of the VMCOREINFO area: a note with a page of data, and an empty header
(include/linux/crash_core.h)."""


def note_spans(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Start and end of each note in `data`; stops at an empty header or at one that
    overruns, as fs/proc/vmcore.c:update_note_header_size does."""
    at = 0
    while at + NHDR.size <= len(data):
        namesz, descsz, _ = NHDR.unpack_from(data, at)
        end = at + NHDR.size + align_up(namesz, 4) + align_up(descsz, 4)
        if not namesz or end > len(data):
            return
        yield at, end
        at = end


def parse_notes(data: bytes | memoryview) -> Iterator[Note]:
    """The notes at the start of `data`, as far as `note_spans` goes."""
    for at, _ in note_spans(data):
        namesz, descsz, kind = NHDR.unpack_from(data, at)
        name_at = at + NHDR.size
        desc_at = name_at + align_up(namesz, 4)
        name = bytes(data[name_at : name_at + namesz]).rstrip(b"\0")
        yield Note(name, kind, bytes(data[desc_at : desc_at + descsz]))


def vmcoreinfo_values(text: bytes) -> dict[str, str]:
    """KEY=VALUE lines of a VMCOREINFO descriptor; others are left out."""
    pairs = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {key: value for key, sep, value in pairs if sep}


def moved_note(area: NoteArea, backup: BackupMap) -> NoteArea | None:
    """Where a note is after the switch; None if it does not stay in one piece."""
    now = backup.now_range(PhysRange.sized(area.addr, area.size))
    return NoteArea(now.start, now.size) if now else None
