"""Pages of what a file is and asks for: images, initrds, zero pages, core headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.cli.out.blocks import Block, Facts, Table
from pykexec.cli.pages import many, size

if TYPE_CHECKING:
    from pykexec.flows.inspect import CoreHeaders, ZeroPage
    from pykexec.images.initrd import Initrd
    from pykexec.images.kernel_image import KernelImage


def image(found: KernelImage, verbose: int = 0) -> list[Block]:
    """The same names as in JSON; sizes of memory in words, too."""
    from pykexec.cli.documents_files import boot

    facts = [
        ("type", found.type),
        ("version", found.version or "unknown"),
        ("sha256", found.file.sha256.hex() if found.file else "unknown"),
    ]
    if found.wrapped:
        facts.append(("inside", ", ".join(found.wrapped)))
    if found.profiles:
        facts.append(("profile", str(found.profile)))
        facts.append(("profiles", "; ".join(map(str, found.profiles))))
    if found.implied.cmdline is not None:
        facts.append(("cmdline inside", found.implied.cmdline))
    if found.implied.initrd:
        facts.append(("initrd inside", size(found.implied.initrd.size)))
    asked = ((name, in_words(value)) for name, value in boot(found.boot).items())
    return [Facts([*facts, *asked])]


SIZES = ("ramdisk_size", "init_size")
"""Of a zero page; its other numbers are addresses and bit fields."""


def in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= PAGE_SIZE:
        return in_both(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(in_words, value)) or "none"
    return "none" if value is None else str(value)


def in_both(number: int) -> str:
    """Bytes, exactly and for a reader."""
    return f"{number:#x} ({size(number)})"


def initrd(found: Initrd, verbose: int = 0) -> list[Block]:
    whole = all(item.complete for item in found.archives)
    facts = [
        ("type", "initrd"),
        ("size", in_both(found.size)),
        ("unpacked", ("" if whole else "more than ") + in_both(found.unpacked)),
    ]
    rows = [
        (
            f"{item.offset:#x}",
            item.codec or "nothing",
            f"{item.unpacked:#x}",
            "not counted" if item.files is None else str(item.files),
        )
        for item in found.archives
    ]
    return [Facts(facts), Table(("offset", "packed with", "unpacked", "files"), rows)]


def zero_page(found: ZeroPage, verbose: int = 0) -> list[Block]:
    """The fields by the names of struct boot_params."""
    from dataclasses import fields

    from pykexec.cli.documents_files import zero_page as document

    facts = [("type", "boot_params (zero page)")]
    shown = document(found)
    for field in fields(shown):
        value = getattr(shown, field.name)
        if field.name in SIZES:
            facts.append((field.name, in_words(value)))
        elif field.name != "e820":
            facts.append((field.name, hex(value) if isinstance(value, int) else in_words(value)))
    rows = [(f"{row.start:#x}", f"{row.end:#x}", row.type) for row in found.e820]
    return [Facts(facts), Table(("start", "end", "type"), rows)]


def core_headers(found: CoreHeaders, verbose: int = 0) -> list[Block]:
    facts = [
        ("type", "ELF core headers (elfcorehdr)"),
        ("program headers", str(found.program_headers)),
        ("notes", many(len(found.notes), "note")),
        ("memory", f"{in_both(found.memory)} in {len(found.loads)} PT_LOADs"),
        ("moved", f"{in_both(found.moved)}: backup pages"),
        ("overlaps", str(found.overlaps)),
    ]
    if not verbose:
        return [Facts(facts)]
    rows = [(f"{item.paddr:#x}", f"{item.size:#x}", f"{item.offset:#x}") for item in found.loads]
    return [Facts(facts), Table(("paddr", "size", "offset"), rows)]
