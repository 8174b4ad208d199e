"""Common parts of the three loads of a capture kernel: its command line, its memory, and advice on
its size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pykexec.errors import UsageError
from pykexec.memory.hole import NoHole
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.boot_protocol import BootInformation, CaptureMemory, boot_protocol
from pykexec.placement.capture_words import (
    NEVER_INHERITED,
    SAVE_TARGET,
    append_warnings,
    dropped_warnings,
)
from pykexec.placement.cmdline import CommandLine, check_length, command_line, running_line
from pykexec.placement.estimate import Estimate, crash_size
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.remedies import Use, WindowOfSize, Wish, any_of, saying

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine

ASSUMED = "the addresses of huge pages are assumed: the actual ones are known only at the load"


def capture_information(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    rng_seed: bytes,
    ram: RangeSet,
    headers: PhysRange,
    copies: Iterable[PhysRange] = (),
) -> BootInformation:
    """The boot information of a capture kernel: it may use `ram`, less the ELF core headers and
    other copies of old memory, which must not lie in its free RAM (contract 7.1)."""
    line = _capture_command_line(image, machine, request, headers.start)
    kept = tuple(copies)
    given = _capture_map(machine.known_map, ram, RangeSet.of((headers, *kept)))
    memory = CaptureMemory(ram, headers, kept, given)
    protocol = boot_protocol(machine)
    return protocol.boot_information(image, machine, request, rng_seed, line, memory)


def _capture_command_line(
    image: KernelImage, machine: Machine, request: LoadRequest, headers_at: int
) -> CommandLine:
    """The user's words, and what a capture kernel needs; the user must not set elfcorehdr=."""
    if any("elfcorehdr=" in text for text in request.append):
        raise UsageError(
            "elfcorehdr= is set by pykexec", hint=saying("remove it from ", Wish.APPEND)
        )
    line = capture_line(machine, request, headers_at)
    check_length(line, image.linux.cmdline_size)
    return line


def capture_line(
    machine: Machine, request: LoadRequest, headers_at: int | None = None
) -> CommandLine:
    """The command line of a capture kernel, for either system call; with kexec_file_load(2) the
    kernel adds the address of the ELF core headers."""
    protocol = boot_protocol(machine)
    usual = protocol.usual_words if request.capture_words is None else request.capture_words
    return command_line(
        request.append,
        running_line(machine, request.reuse_cmdline),
        request.cmdline_remove,
        (*protocol.capture_words(headers_at), *usual),
        NEVER_INHERITED,
    )


def _capture_map(memory_map: MemoryMap, ram: RangeSet, kept: RangeSet) -> MemoryMap:
    """`ram` without `kept`, which becomes reserved, and everything that the firmware reserves."""
    return MemoryMap.of(
        (
            *(MemoryRange(span, RangeType.RAM) for span in ram - kept),
            *(MemoryRange(span, RangeType.RESERVED) for span in kept),
            *memory_map.firmware,
        )
    )


def crash_need(image: KernelImage, machine: Machine, request: LoadRequest) -> Estimate:
    """The memory of the capture kernel of a request, including what it takes on this machine."""
    pools = boot_protocol(machine).pools(machine, request)
    return crash_size(image, request.initrd, request.append, pools)


@contextmanager
def size_advised(image: KernelImage, machine: Machine, request: LoadRequest) -> Iterator[None]:
    """Adds a sufficient size to the hint if a part of the capture kernel does not fit."""
    try:
        yield
    except NoHole as error:
        if error.name:
            mib = crash_need(image, machine, request).size >> 20
            why = f", the estimate for this kernel and initrd ({error.hint})"
            error.remedy = WindowOfSize(mib, why)
            if request.kind is ImageKind.CRASH:
                boot = f"boot with crashkernel={mib}M"
                error.remedy = any_of(boot, Use(Wish.CRASH_BY_NORMAL, rest=why))
        raise


NO_ROOT = (
    f"{SAVE_TARGET} needs the root file system, but the command line of the capture kernel has no "
    "root=, so nothing can save the dump"
)
NO_REBOOT = (
    "with panic=0 the machine stops instead of rebooting if the capture kernel panics itself "
    "(use panic=10)"
)


def saving_warnings(line: CommandLine) -> tuple[str, ...]:
    """What on a capture kernel's command line keeps it from saving the dump, or the machine from
    coming back afterwards. Of several words of a key, the kernel uses the last."""
    last = {word.key: word.text for word in line.words}
    found = []
    if last.get("systemd.unit") == SAVE_TARGET and not line.has("root"):
        found.append(NO_ROOT)
    if re.fullmatch("panic=[+-]?0+", last.get("panic", "")):
        found.append(NO_REBOOT)
    return tuple(found)


def capture_warnings(
    machine: Machine, request: LoadRequest, size: int, guess: Estimate, line: CommandLine
) -> tuple[str, ...]:
    """Warnings about a window of `size` bytes: an estimate causes no errors."""
    words = (
        *dropped_warnings(line.dropped),
        *append_warnings(request.append),
        *saving_warnings(line),
        *boot_protocol(machine).capture_warnings(machine, request, line),
    )
    if size >= guess.size:
        return words
    return (
        f"the window has {size >> 20} MiB, less than the estimate of {guess.size >> 20} "
        "MiB for this kernel and initrd: the capture kernel may run out of memory",
        *words,
    )
