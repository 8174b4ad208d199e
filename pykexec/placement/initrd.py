"""Whether the initrd can serve the kernel that it is loaded with: checked by every flow, before
anything is placed.

A crash load is refused if the initrd cannot work, because nobody would notice before the crash. A
normal load causes a warning: the user is present, and images other than Linux accept other files as
an initrd (ipxe.lkrn a script, memdisk a disk).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pykexec.errors import KexecError
from pykexec.images.initrd_check import Examined, examine
from pykexec.images.kernel_image import KernelImage, Linux32Boot, LinuxArm64Boot, LinuxX86Boot
from pykexec.placement.plan import InitrdVerdict
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.remedies import Use, Wish, and_also

RELEASE = re.compile(r"\d+\.\d+\S*")
SHOWN = 3
"""Number of releases to name in a message."""
OVERRIDE = Use(Wish.NO_INITRD_CHECK, rest=" to load it anyway")
NO_INITRD = "there is no initrd: the dump is lost unless the system at root= saves /proc/vmcore"
NO_INITRD_NO_ROOT = "there is neither an initrd nor root=, so nothing can save the dump"
NO_INIT = "the initrd has no /init: the kernel runs the system at root= and not the initrd"


class UnusableInitrd(KexecError):
    """A file that no Linux kernel can use as an initrd, for a crash load."""

    code = "unusable-initrd"


class InitrdOfAnotherKernel(KexecError):
    """An initrd with modules of other kernels only, for a crash load."""

    code = "initrd-of-another-kernel"


def check_initrd(image: KernelImage, request: LoadRequest) -> InitrdVerdict:
    """`request` is the completed one (with_implied). Raises UnusableInitrd,
    InitrdOfAnotherKernel, UnreadableFile."""
    if not isinstance(image.boot, LinuxX86Boot | LinuxArm64Boot | Linux32Boot):
        return InitrdVerdict()
    crash = request.kind is not ImageKind.NORMAL
    if request.initrd is None:
        return InitrdVerdict(_without_initrd(request) if crash else ())
    release = release_of(image)
    found = examine(request.initrd, release)
    strict = crash and request.initrd_check
    warnings = tuple(_fault_warnings(found, strict))
    modules = tuple(sorted(found.releases))
    if other := _other_kernels(", ".join(found.names), release, modules):
        if strict:
            raise InitrdOfAnotherKernel(
                other, hint=and_also(f"use the initrd of {release}", OVERRIDE)
            )
        warnings += (other,)
    if found.complete and not found.has_init and not says(request, "rdinit="):
        warnings += (NO_INIT,)
    return InitrdVerdict(warnings, release, modules, tuple(found.unread))


def release_of(image: KernelImage) -> str | None:
    """The uname -r of this kernel: the first word of its banner; None if unknown."""
    word = (image.version or "").split(" ")[0]
    return word if RELEASE.fullmatch(word) else None


def _fault_warnings(found: Examined, strict: bool) -> Iterator[str]:
    """Raises UnusableInitrd for the first fatal fault, if `strict`."""
    for fault in found.faults:
        if fault.fatal and strict:
            raise UnusableInitrd(fault.what, hint=and_also(fault.hint, OVERRIDE))
        yield f"{fault.what} ({fault.hint})"


def _other_kernels(name: str, release: str | None, modules: tuple[str, ...]) -> str | None:
    """None if the kernel's own modules are present, or if that is unknown."""
    if release is None or not modules or release in modules:
        return None
    shown = ", ".join(modules[:SHOWN]) + (" and others" if len(modules) > SHOWN else "")
    return (
        f"{name}: the initrd belongs to another kernel: its modules are for {shown}, but "
        f"the kernel is {release}"
    )


def _without_initrd(request: LoadRequest) -> tuple[str, ...]:
    return (NO_INITRD if says(request, "root=") or request.reuse_cmdline else NO_INITRD_NO_ROOT,)


def says(request: LoadRequest, key: str) -> bool:
    """Whether a word of --append has this key."""
    return any(word.startswith(key) for text in request.append for word in text.split())
