"""The result of `inspect` for an initrd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Table
from pykexec.cli.report.file_parts import in_both
from pykexec.documents.files import Archive, InitrdContents

if TYPE_CHECKING:
    from pykexec.images.initrd import Initrd


@dataclass(frozen=True)
class InitrdReport:
    """The archives of an initrd."""

    found: Initrd

    def document(self) -> InitrdContents:
        archives = (
            Archive(item.offset, item.codec, item.unpacked, item.files, item.complete)
            for item in self.found.archives
        )
        return InitrdContents(self.found.size, self.found.unpacked, tuple(archives))

    def page(self, verbose: int) -> list[Block]:
        found = self.found
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
