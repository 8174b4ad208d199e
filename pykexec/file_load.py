"""The short flow of kexec_file_load(2): the kernel reads the files and places everything."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pykexec.abi.kexec import KexecFileFlag
from pykexec.backends.backend import Slot
from pykexec.images.contents import Contents, OpenFile
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.images.unwrapped import bzimage_file
from pykexec.machine import Machine
from pykexec.placement import cmdline
from pykexec.placement.cmdline import CommandLine
from pykexec.placement.implied import with_implied
from pykexec.placement.plan import ImageKind, LoadRequest

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
class FileLoaded:
    """What was handed over; where it went is the kernel's secret."""

    image: KernelImage
    slot: Slot
    flags: KexecFileFlag
    cmdline: CommandLine


def file_load(
    kernel: str | os.PathLike[str], backend: FileLoadBackend, request: LoadRequest
) -> FileLoaded:
    """Identify, build the command line, hand over. Raises KexecError."""
    image = identify(kernel)
    with backend.session():
        return hand_over(image, backend, request)


def hand_over(
    image: KernelImage,
    backend: FileLoadBackend,
    request: LoadRequest,
    more_flags: KexecFileFlag = NO_FILE_FLAGS,
) -> FileLoaded:
    """The same for a parsed image, inside of a session of the backend; `more_flags` besides
    those that the request needs."""
    request = with_implied(image, request)
    machine = backend.machine()
    crash = request.kind is ImageKind.CRASH
    removed = (*request.cmdline_remove, *(cmdline.FIRST_KERNEL_KEYS if crash else ()))
    line = cmdline.command_line(
        request.append,
        cmdline.running_line(machine, request.reuse_cmdline),
        removed,
        request.capture_words if crash else (),
    )
    cmdline.check_length(line, image.linux.cmdline_size)
    flags = more_flags
    if crash:
        flags |= KexecFileFlag.KEXEC_FILE_ON_CRASH
    if request.initrd is None:
        flags |= KexecFileFlag.KEXEC_FILE_NO_INITRAMFS
    backend.file_load(bzimage_file(image), request.initrd, line.encoded[:-1], flags)
    return FileLoaded(image, Slot.CRASH if crash else Slot.NORMAL, flags, line)
