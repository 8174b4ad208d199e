"""What a file is and asks for, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.cli.plain import columns, fields, many, size
from pykexec.cli.plain_findings import Facts

if TYPE_CHECKING:
    from pykexec.cli.reports import ImageReport
    from pykexec.images.initrd import Initrd
    from pykexec.inspection import CoreHeaders, ZeroPage


def image(report: ImageReport, verbose: int = 0) -> list[str]:
    return fields(image_facts(report))


def image_facts(report: ImageReport) -> Facts:
    """The same names as in JSON; sizes of memory in words, too."""
    from pykexec.cli.documents_files import boot

    found = report.image
    facts = [
        ("type", found.type),
        ("version", found.version or "unknown"),
        ("sha256", found.file.sha256.hex() if found.file else "unknown"),
    ]
    if found.wrapped:
        facts.append(("inside", ", ".join(found.wrapped)))
    if found.implied.cmdline is not None:
        facts.append(("cmdline inside", found.implied.cmdline))
    if found.implied.initrd:
        facts.append(("initrd inside", size(found.implied.initrd.size)))
    return [*facts, *((name, in_words(name, value)) for name, value in boot(found.boot).items())]


def in_words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= PAGE_SIZE:
        return f"{value:#x} ({size(value)})"
    if isinstance(value, list):
        return "; ".join(str(item) for item in value) or "none"
    return str(value)


def initrd(found: Initrd, verbose: int = 0) -> list[str]:
    return [*fields(initrd_facts(found)), "", *columns([ARCHIVE_HEAD, *archive_rows(found)])]


def initrd_facts(found: Initrd) -> Facts:
    whole = all(item.complete for item in found.archives)
    return [
        ("type", "initrd"),
        ("size", f"{found.size:#x} ({size(found.size)})"),
        (
            "unpacked",
            ("" if whole else "more than ") + f"{found.unpacked:#x} ({size(found.unpacked)})",
        ),
    ]


ARCHIVE_HEAD = ("offset", "packed with", "unpacked", "files")


def archive_rows(found: Initrd) -> list[tuple[str, ...]]:
    return [
        (
            f"{item.offset:#x}",
            item.codec or "nothing",
            f"{item.unpacked:#x}",
            "not counted" if item.files is None else str(item.files),
        )
        for item in found.archives
    ]


def zero_page(found: ZeroPage, verbose: int = 0) -> list[str]:
    return [*fields(zero_page_facts(found)), "", *columns([E820_HEAD, *e820_rows(found)])]


def zero_page_facts(found: ZeroPage) -> Facts:
    """The fields by the names of struct boot_params."""
    from pykexec.cli.documents_files import zero_page as document

    facts = [("type", "boot_params (zero page)")]
    for name, value in document(found).items():
        if name not in ("schema", "e820"):
            facts.append((name, "none" if value is None else in_words(name, value)))
    return facts


E820_HEAD = ("start", "end", "type")


def e820_rows(found: ZeroPage) -> list[tuple[str, ...]]:
    return [(f"{row.start:#x}", f"{row.end:#x}", row.type) for row in found.e820]


def core_headers(found: CoreHeaders, verbose: int = 0) -> list[str]:
    lines = fields(core_headers_facts(found))
    if verbose:
        lines += ["", *columns([OLD_HEAD, *old_rows(found)])]
    return lines


def core_headers_facts(found: CoreHeaders) -> Facts:
    return [
        ("type", "ELF core headers (elfcorehdr)"),
        ("program headers", str(found.program_headers)),
        ("notes", many(len(found.notes), "note")),
        ("memory", f"{found.memory:#x} ({size(found.memory)}) in {len(found.loads)} PT_LOADs"),
        ("moved", f"{found.moved:#x} ({size(found.moved)}): backup pages"),
        ("overlaps", str(found.overlaps)),
    ]


OLD_HEAD = ("paddr", "size", "offset")


def old_rows(found: CoreHeaders) -> list[tuple[str, ...]]:
    return [(f"{item.paddr:#x}", f"{item.size:#x}", f"{item.offset:#x}") for item in found.loads]
