"""An error in the wording of kexec-tools, which its callers know, and the exit status."""

from __future__ import annotations

import os
from errno import ENOSYS
from typing import TYPE_CHECKING

from pykexec.backends.backend import NothingLoaded
from pykexec.cli.kexec8.name import FAILED, NAME
from pykexec.cli.kexec8.say import say
from pykexec.cli.kexec8.terms import KEXEC8
from pykexec.errors import DoesNotFit, KexecError, UsageError
from pykexec.images.contents import UnreadableFile
from pykexec.images.kernel_image import NotAnImage
from pykexec.memory.hole import NoHole
from pykexec.placement.reservation import NothingReserved
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.cli.kexec8.shown import Given

USAGE = 1
"""In kexec-tools, errors that it detects itself; FAILED is for errors of the kernel or the
image."""

NOT_RESERVED = (
    "Memory for crashkernel is not reserved",
    'Please reserve memory by passing"crashkernel=Y@X" parameter to kernel',
    "Then try to loading kdump kernel",
)
LOAD_CALLS = ("kexec_load", "kexec_file_load")


def refuse(
    error: KexecError, given: Given | None = None, unloading: bool = False, debug: bool = False
) -> int:
    """Print the error, first in the wording of kexec-tools if there is one, with details if
    `debug`; returns the exit status."""
    say(_known_words(error, given, unloading))
    say([f"{NAME}: {error.message}"])
    if hint := error.hint_in(KEXEC8):
        say([f"  hint: {hint}"])
    if debug:
        say(f"  {line}" for line in error.details)
    return exit_status(error)


def _known_words(error: KexecError, given: Given | None, unloading: bool) -> Iterator[str]:
    """Messages of kexec-tools, character by character."""
    match error:
        case SyscallError():
            yield from _refused_call(error, given, unloading)
        case NothingReserved():
            yield from NOT_RESERVED
        case NothingLoaded():
            yield "Nothing has been loaded!"
        case NotAnImage():
            yield f"Cannot determine the file type of {error.path}"
        case UnreadableFile() if isinstance(error.__cause__, OSError):
            yield f"Cannot open `{error.path}': {error.__cause__.strerror}"
        case NoHole():
            yield f"Could not find a free area of memory of {error.facts['size']:#x} bytes..."


def _refused_call(error: KexecError, given: Given | None, unloading: bool) -> Iterator[str]:

    number = error.facts["errno"]
    assert isinstance(number, int)
    reason = os.strerror(number)
    call = str(error.facts["syscall"])
    if unloading:
        yield f"kexec unload failed: {reason}"
    elif call == "kexec_file_load" and number == ENOSYS:
        yield "syscall kexec_file_load not available."
    elif call in LOAD_CALLS:
        yield f"{call} failed: {reason}"
        if given and call == "kexec_load":
            yield from given.after()
    else:
        yield f"kexec failed: {reason}"


def exit_status(error: KexecError) -> int:
    """1 for errors detected here, 255 for errors of the image or the kernel."""
    if isinstance(error, UsageError):
        return FAILED if error.exit_status == FAILED else USAGE
    found_here = isinstance(error, (DoesNotFit, UnreadableFile, NothingLoaded))
    return USAGE if found_here else FAILED
