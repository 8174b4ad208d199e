"""What a file is and asks for, drawn on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from pykexec.cli import plain_files
from pykexec.cli.render import facts, grid

if TYPE_CHECKING:
    from pykexec.cli.reports import ImageReport
    from pykexec.images.initrd import Initrd
    from pykexec.inspection import CoreHeaders, ZeroPage


def image(report: ImageReport, verbose: int = 0) -> RenderableType:
    return facts(plain_files.image_facts(report))


def initrd(found: Initrd, verbose: int = 0) -> RenderableType:
    rows = plain_files.archive_rows(found)
    return Group(facts(plain_files.initrd_facts(found)), grid(plain_files.ARCHIVE_HEAD, rows))


def zero_page(found: ZeroPage, verbose: int = 0) -> RenderableType:
    rows = plain_files.e820_rows(found)
    return Group(facts(plain_files.zero_page_facts(found)), grid(plain_files.E820_HEAD, rows))


def core_headers(found: CoreHeaders, verbose: int = 0) -> RenderableType:
    drawn = facts(plain_files.core_headers_facts(found))
    if not verbose:
        return drawn
    return Group(drawn, grid(plain_files.OLD_HEAD, plain_files.old_rows(found)))
