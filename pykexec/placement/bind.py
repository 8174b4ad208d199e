"""A plan in its second state: the backup pages are known, so the headers can be built.

The open point of the 2007 proposal. For a reserved crash kernel the headers are a segment, and are
built before the load; for crash by normal the source pages exist only after it. The map comes from
whoever made the page list, which does not matter here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.crash import elfcorehdr
from pykexec.crash.armed_note import ArmedNote
from pykexec.crash.described import described
from pykexec.crash.notes import moved_note, parse_notes
from pykexec.errors import DoesNotFit, NotSupported
from pykexec.frozen import dataclass
from pykexec.machine import Machine, NoteArea, Unknown, known
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.plan import CapturePlan, PanicPlan, Plan, SwitchPlan
from pykexec.purgatory import SEAL_SIZE, Seal

if TYPE_CHECKING:
    from pykexec.crash.backup_map import BackupMap
    from pykexec.crash.elfcorehdr import OldMemory


class HeadersTooLong(DoesNotFit):
    """More header bytes than the plan has space for."""

    code = "headers-too-long"


@dataclass(frozen=True)
class BoundPlan:
    """The plan, where old pages will be, and the finished ELF core headers."""

    plan: Plan
    backup_map: BackupMap
    headers_at: PhysRange
    headers: bytes
    program_headers: int
    warnings: tuple[str, ...] = ()
    described: str | None = None
    """What the headers say of this machine, as `described` gives it."""

    @property
    def sealed(self) -> bytes:
        """The complete segment of the headers: headers, zeros, and at its end the seal that the
        stub checks."""
        seal = bytes(Seal.of(self.headers_at.start, self.headers))
        return self.headers.ljust(self.headers_at.size - SEAL_SIZE, b"\0") + seal


def bind(
    plan: Plan,
    machine: Machine,
    backup_map: BackupMap,
    vmcoreinfo_note: bytes,
    left_out: RangeSet | None = None,
) -> BoundPlan:
    """Build the headers of `plan` for these backup pages.

    `vmcoreinfo_note` is the note as read at the load; it is copied after the headers if the note's
    pages do not stay together. `left_out` is memory of pykexec itself. Raises TooManyHeaders,
    HeadersTooLong, or NotSupported for an unknown fact.
    """
    if not isinstance(plan, CapturePlan):
        raise NotSupported("only a capture kernel has ELF core headers")
    where = plan.headers
    ours = (machine.crash_kernel or RangeSet()) | (left_out or RangeSet())
    loads = elfcorehdr.old_memory(plan.memory_map.old_memory(plan.page_size), backup_map, ours)
    areas, copied, warnings = _notes_for(machine, backup_map, vmcoreinfo_note)
    copied += _armed(plan)
    base = known(
        machine.page_offset_base,
        "the start of the direct map",
        "dump tools need it: run as root, which can read /proc/kcore",
    )
    image = kernel_image(machine, loads, len(areas) + bool(copied))
    headers = elfcorehdr.build(
        where.start,
        areas,
        loads,
        page_offset_base=base,
        copied_note=copied,
        image=image,
        arch=machine.known_arch,
    )
    room = where.size - SEAL_SIZE
    if len(headers) > room:
        raise HeadersTooLong(
            f"the ELF core headers have {len(headers):#x} bytes, but there is room for {room:#x}",
            hint="use a smaller window",
        )
    count = len(areas) + len(image) + len(loads) + bool(copied)
    return BoundPlan(plan, backup_map, where, headers, count, warnings, described(machine) or None)


def _armed(plan: CapturePlan) -> bytes:
    """The note about how this was armed; b"" for a load into a crash region."""
    if isinstance(plan, PanicPlan):
        wait, lent = plan.settle.seconds, plan.stage.lent.size
    elif isinstance(plan, SwitchPlan):
        wait, lent = 0, 0
    else:
        return b""
    window = (plan.window.start, plan.window.end)
    return ArmedNote(plan.mode.value, window, wait, lent).encoded


def kernel_image(
    machine: Machine, loads: tuple[OldMemory, ...], notes: int
) -> tuple[tuple[int, OldMemory], ...]:
    """The kernel's image by its virtual addresses. It is left out if its address is unknown, or if
    program headers are scarce: its memory is also in other headers."""
    if isinstance(machine.kernel_mapping, Unknown):
        return ()
    image = elfcorehdr.image_pieces(loads, machine.kernel_mapping)
    few = notes + len(loads) + len(image) <= elfcorehdr.MAX_PROGRAM_HEADERS
    return image if few else ()


def _notes_for(
    machine: Machine, backup_map: BackupMap, vmcoreinfo_note: bytes
) -> tuple[list[NoteArea], bytes, tuple[str, ...]]:
    """The notes at their place after the switch, the copy of VMCOREINFO if one is needed, and
    warnings about missing notes."""
    areas: list[NoteArea] = []
    warnings: list[str] = []
    if isinstance(machine.cpus, Unknown):
        warnings.append(f"the dump will have no registers: crash_notes is {machine.cpus}")
    else:
        for cpu in machine.cpus:
            if moved := moved_note(NoteArea(cpu.addr, cpu.size), backup_map):
                areas.append(moved)
            else:
                warnings.append(
                    f"the dump will have no registers of CPU {cpu.cpu}: its note is lost"
                )
    area = machine.vmcoreinfo
    if not isinstance(area, Unknown) and (moved := moved_note(area, backup_map)):
        return [*areas, moved], b"", tuple(warnings)
    note = next(parse_notes(vmcoreinfo_note), None)
    if note is None:
        raise NotSupported(
            "there is no VMCOREINFO note, without which dump tools cannot interpret the memory",
            hint="run as root, on a kernel with CONFIG_VMCORE_INFO",
        )
    return areas, note.encoded, tuple(warnings)
