"""Common parts of the documents of several results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.report.cmdline import origin, why_dropped
from pykexec.documents.base import CheckResult
from pykexec.documents.load import Kernel, Syscall, Word
from pykexec.documents.plan import MapEntry
from pykexec.images.contents import UnreadableFile
from pykexec.memory.map import DRIVER_RAM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.map import MemoryMap
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.kernel_rules import Check
    from pykexec.placement.syscall_choice import SyscallChoice


def map_entries(memory_map: MemoryMap) -> tuple[MapEntry, ...]:
    """The firmware's ranges, then RAM that drivers added, whatever its type in the firmware's
    map."""
    return (
        *(MapEntry(i.range.start, i.range.end, str(i.type)) for i in memory_map.ranges),
        *(MapEntry(item.start, item.end, DRIVER_RAM) for item in memory_map.driver_ram),
    )


def words(line: CommandLine) -> tuple[Word, ...]:
    """The words in order, then the dropped words of the running kernel's line."""
    return (
        *(Word(word.text, origin(word.origin), None) for word in line.words),
        *(Word(item.text, origin(item.origin), why_dropped(item)) for item in line.dropped),
    )


def syscall(choice: SyscallChoice) -> Syscall:
    return Syscall("kexec_file_load" if choice.is_file else "kexec_load", choice.why)


def kernel(image: KernelImage) -> Kernel:
    """`sha256` is None if there is no file, or if it has changed since it was loaded."""
    try:
        digest = image.file.sha256.hex() if image.file else None
    except UnreadableFile:
        digest = None
    return Kernel(image.type, image.version, digest)


def checks(items: Iterable[Check]) -> tuple[CheckResult, ...]:
    return tuple(CheckResult(item.rule, item.ok, item.detail) for item in items)
