"""The memory map that a normal load passes to the next kernel.

/proc/iomem is the map after changes by the running kernel, such as mem= and memmap=. The next
kernel gets the firmware's map, as kexec_file_load passes on e820_table_kexec
(arch/x86/kernel/kexec-bzimage64.c:setup_e820_entries), and detects everything else itself: drivers
add their RAM again, and quirks reserve theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.machine import Machine, Unknown
from pykexec.memory.map import MemoryMap, MemoryRange
from pykexec.memory.ranges import RangeSet
from pykexec.placement.cmdline import key_of, split_words

EFI_MEMMAP = "add_efi_memmap"
"""With this option the kernel adds RAM that only EFI's map has (e820.c:do_add_efi_memmap)."""
ALTERING = frozenset(("mem", "memmap"))


def next_memory_map(machine: Machine) -> MemoryMap:
    """The firmware's map, with add_efi_memmap extended by what the running kernel has in addition;
    the running kernel's map if the firmware's is unknown. Raises NotSupported if both are."""
    running, firmware = machine.known_map, machine.pc.memory_map
    if isinstance(firmware, Unknown):
        return MemoryMap(running.ranges)
    if not _has_word(machine, EFI_MEMMAP):
        return firmware
    described = RangeSet.of(item.range for item in firmware.ranges)
    beside = (
        MemoryRange(span, item.type)
        for item in running.ranges
        for span in RangeSet((item.range,)) - described
    )
    return MemoryMap.of((*firmware.ranges, *beside))


def next_map_warnings(machine: Machine) -> Iterator[str]:
    """Warns if the map that is passed on is known to be incomplete."""
    firmware = machine.pc.memory_map
    if isinstance(firmware, Unknown):
        words = _altering_words(machine)
        if words:
            yield (
                "the next kernel receives the memory map of /proc/iomem, which "
                f"{' '.join(words)} of the running kernel changed; the firmware's is "
                f"{firmware}"
            )
    if machine.out_of_reach:
        yield (
            "RAM above 2^52, which no x86 processor can address, is omitted from the "
            f"memory map: {machine.out_of_reach.ranges[0]}"
        )


def _altering_words(machine: Machine) -> tuple[str, ...]:
    """Words of the running kernel's command line that change what /proc/iomem shows."""
    line = machine.cmdline
    words = () if isinstance(line, Unknown) else split_words(line)
    return tuple(word for word in words if key_of(word) in ALTERING)


def _has_word(machine: Machine, wanted: str) -> bool:
    line = machine.cmdline
    return not isinstance(line, Unknown) and wanted in split_words(line)
