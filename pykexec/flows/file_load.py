"""The short flow of kexec_file_load(2): the kernel reads the files and places everything.

What is passed to the kernel is decided first (`plan_file_load`), which is all that a dry run does.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from pykexec.abi.kexec import KexecFileFlag
from pykexec.backends.backend import Slot
from pykexec.frozen import dataclass
from pykexec.images.identify import identify
from pykexec.images.kernel_image import LinuxArm64Boot
from pykexec.images.unwrapped import BY_TABLE, kernel_file
from pykexec.machine import Machine, Unknown
from pykexec.placement.boot_protocol import boot_protocol
from pykexec.placement.capture_kernel import capture_line, capture_warnings, crash_need
from pykexec.placement.cmdline import (
    CommandLine,
    check_length,
    command_line,
    file_load_limit,
    running_line,
)
from pykexec.placement.foreign import refuse_foreign
from pykexec.placement.implied import implied_notes, with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.placement.reservation import NothingReserved
from pykexec.placement.syscall_choice import why_load_is_refused

if TYPE_CHECKING:
    from pykexec.images.contents import Contents, OpenFile
    from pykexec.images.kernel_image import KernelImage

NO_FILE_FLAGS = KexecFileFlag(0)


class FileLoadBackend(Protocol):
    """A backend whose kernel reads files."""

    def machine(self) -> Machine: ...

    def session(self) -> AbstractContextManager[None]: ...

    def file_load(
        self, kernel: OpenFile, initrd: Contents | None, cmdline: bytes, flags: KexecFileFlag
    ) -> None:
        """kexec_file_load(2); `cmdline` without its NUL."""
        ...


@dataclass(frozen=True)
class FilePlan:
    """The arguments of kexec_file_load(2); the kernel does not reveal the placement."""

    image: KernelImage
    file: OpenFile
    """The kernel itself, unpacked if the user's file is a container of one."""
    initrd: Contents | None
    slot: Slot
    flags: KexecFileFlag
    cmdline: CommandLine
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Parts of the initrd that could not be read, and why."""


def file_load(
    kernel: str | os.PathLike[str], backend: FileLoadBackend, request: LoadRequest
) -> FilePlan:
    """Identify, build the command line, and load. Raises KexecError."""
    image = identify(kernel, profile=request.profile)
    with backend.session():
        return hand_over(image, backend, request)


def hand_over(
    image: KernelImage,
    backend: FileLoadBackend,
    request: LoadRequest,
    more_flags: KexecFileFlag = NO_FILE_FLAGS,
) -> FilePlan:
    """The same for a parsed image, inside a session of the backend; `more_flags` are added to those
    that the request needs."""
    planned = plan_file_load(image, backend.machine(), request, more_flags)
    line = planned.cmdline.encoded[:-1]
    backend.file_load(planned.file, planned.initrd, line, planned.flags)
    return planned


def plan_file_load(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    more_flags: KexecFileFlag = NO_FILE_FLAGS,
) -> FilePlan:
    """Decides without effect, for a load or a dry run. Raises NotSupported for an image that no
    loader of the kernel accepts, NothingReserved, UsageError for a command line that does not fit,
    and what check_initrd raises."""
    refuse_foreign(image)
    boot_protocol(machine).refuse(image, machine, request)
    refused = why_load_is_refused(machine)
    file = kernel_file(image, f"use a bzImage: {refused}" if refused else BY_TABLE)
    request = with_implied(image, request)
    crash = request.kind is ImageKind.CRASH
    if crash:
        _refuse_without_region(machine)
        line = capture_line(machine, request)
    else:
        running = running_line(machine, request.reuse_cmdline)
        line = command_line(request.append, running, request.cmdline_remove)
    check_length(line, _longest_line(image), "kexec_file_load")
    flags = more_flags
    if crash:
        flags |= KexecFileFlag.KEXEC_FILE_ON_CRASH
    if request.initrd is None:
        flags |= KexecFileFlag.KEXEC_FILE_NO_INITRAMFS
    slot = Slot.CRASH if crash else Slot.NORMAL
    checked = check_initrd(image, request)
    others = _size_and_word_warnings(image, machine, request, line) if crash else ()
    return FilePlan(
        image=image,
        file=file,
        initrd=request.initrd,
        slot=slot,
        flags=flags,
        cmdline=line,
        warnings=(*implied_notes(image, request), *checked.warnings, *others),
        notes=checked.notes,
    )


def _longest_line(image: KernelImage) -> int:
    """In bytes without the NUL. On arm64 the headers are in the device tree, and nothing is
    spared for elfcorehdr=."""
    limit = image.linux.cmdline_size
    return limit if isinstance(image.boot, LinuxArm64Boot) else file_load_limit(limit)


def _refuse_without_region(machine: Machine) -> None:
    """kexec_file_load(2) would return EADDRNOTAVAIL. Does not refuse if unknown."""
    if not isinstance(machine.crash_kernel, Unknown) and not machine.crash_kernel:
        raise NothingReserved(
            "there is no crash region",
            hint="run pykexec region make 256M, or boot with crashkernel=256M",
        )


def _size_and_word_warnings(
    image: KernelImage, machine: Machine, request: LoadRequest, line: CommandLine
) -> tuple[str, ...]:
    """For a capture kernel in the reserved region, which is hidden without privilege."""
    guess = crash_need(image, machine, request)
    reserved = machine.crash_kernel
    size = reserved.ranges[-1].size if reserved else guess.size
    return capture_warnings(machine, request, size, guess, line)
