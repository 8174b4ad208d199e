"""Whether the initrd can serve the kernel that it is loaded with: what every flow asks, before
anything is placed.

A crash load is refused where the initrd cannot work, since nobody sees it fail before the crash.
A normal load is warned: the person who asked for it is there, and images beside Linux take other
things for an initrd (ipxe.lkrn a script, memdisk a disk).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pykexec.errors import KexecError
from pykexec.images.initrd_check import Examined, examine
from pykexec.images.kernel_image import KernelImage, Linux32Boot, LinuxX86Boot
from pykexec.placement.plan import InitrdVerdict
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.remedies import Use, Wish, and_also

RELEASE = re.compile(r"\d+\.\d+\S*")
SHOWN = 3
"""Releases that a message names."""
OVERRIDE = Use(Wish.NO_INITRD_CHECK, rest=" to load it all the same")
NO_INITRD = "there is no initrd: the dump is lost unless the system at root= saves /proc/vmcore"
NO_INITRD_NO_ROOT = "there is neither an initrd nor root=, so nothing can save the dump"
NO_INIT = "the initrd has no /init: the kernel runs the system at root= and not the initrd"


class UnusableInitrd(KexecError):
    """A file that no Linux kernel can use as an initrd, for a crash load."""

    code = "unusable-initrd"


class InitrdOfAnotherKernel(KexecError):
    """An initrd with the modules of other kernels alone, for a crash load."""

    code = "initrd-of-another-kernel"


def check_initrd(image: KernelImage, request: LoadRequest) -> InitrdVerdict:
    """`request` is the completed one (with_implied). Raises UnusableInitrd,
    InitrdOfAnotherKernel, UnreadableFile."""
    if not isinstance(image.boot, LinuxX86Boot | Linux32Boot):
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
    """What uname -r says in this kernel: the first word of its banner; None where unknown."""
    word = (image.version or "").split(" ")[0]
    return word if RELEASE.fullmatch(word) else None


def _fault_warnings(found: Examined, strict: bool) -> Iterator[str]:
    """Raises UnusableInitrd for the first fault that is fatal, if `strict`."""
    for fault in found.faults:
        if fault.fatal and strict:
            raise UnusableInitrd(fault.what, hint=and_also(fault.hint, OVERRIDE))
        yield f"{fault.what} ({fault.hint})"


def _other_kernels(name: str, release: str | None, modules: tuple[str, ...]) -> str | None:
    """None where the kernel's own modules are there, or where it is unknown whether they are."""
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
    """Whether a word of --append begins so."""
    return any(word.startswith(key) for text in request.append for word in text.split())
