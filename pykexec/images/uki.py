"""Unified kernel image: a PE file of systemd-stub with the kernel, its initrd and its
command line in sections (UAPI Group Specifications, 5: Unified Kernel Image).

What the user says wins: --initrd replaces .ucode and .initrd, --append or --reuse-cmdline
replaces .cmdline. .dtb is for machines that have one, and x86 is none.
"""

from __future__ import annotations

from pykexec.images.contents import Contents, OpenFile, contents_bytes, joined_archives
from pykexec.images.kernel_image import ImageType, Implied, Inside, Refused
from pykexec.images.pe import PeFile, read_pe

MAX_TEXT = 16 << 10
"""Bytes of .cmdline and .uname."""


def parse(file: OpenFile) -> Inside | Refused:
    """The kernel inside, with initrd and command line, or why this is no UKI."""
    pe = read_pe(file)
    if isinstance(pe, Refused):
        return pe
    if pe.named(".linux") is None:
        return Refused("a PE file without a .linux section")
    if pe.truncated:
        return Refused(pe.truncated, close=True)
    kernel = pe.inner(".linux")
    if kernel is None:
        return Refused("its .linux section is empty", close=True)
    cmdline = text(pe, ".cmdline")
    version = text(pe, ".uname")
    if isinstance(cmdline, Refused) or isinstance(version, Refused):
        return cmdline if isinstance(cmdline, Refused) else Refused(".uname is too long", True)
    return Inside(
        file=kernel,
        how="uki",
        type="uki",
        implied=Implied(initrd(pe), cmdline or None, pe.contents(".dtb")),
        version=version or None,
    )


def text(pe: PeFile, name: str) -> str | Refused:
    """A section that is one line of text, or ""."""
    found = pe.contents(name)
    if found is None:
        return ""
    if found.size > MAX_TEXT:
        return Refused(f"{name} has {found.size:#x} bytes, at most {MAX_TEXT:#x}", close=True)
    raw = contents_bytes(found, MAX_TEXT).split(b"\0")[0].strip()
    try:
        return raw.decode().replace("\n", " ")
    except UnicodeDecodeError:
        return Refused(f"{name} is not text", close=True)


def initrd(pe: PeFile) -> Contents | None:
    """.ucode, which must come first, then .initrd."""
    sections = (pe.contents(".ucode"), pe.contents(".initrd"))
    return joined_archives(found for found in sections if found)


UKI = ImageType("uki", parse)
