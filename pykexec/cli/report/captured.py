"""The result of `machine capture`."""

from __future__ import annotations

from dataclasses import dataclass

from pykexec.cli.out.blocks import Block, Facts, Lines
from pykexec.cli.report.page_parts import many
from pykexec.documents.machine import CapturedFile


@dataclass(frozen=True)
class CapturedReport:
    """A file with this machine's facts, and counts of its contents."""

    file: str
    files: int
    folders: int
    unreadable: tuple[str, ...]

    def document(self) -> CapturedFile:
        """Reports that a file was written; the file itself is pykexec.capture/1."""
        return CapturedFile(self.file, self.files, self.folders, self.unreadable)

    def page(self, verbose: int) -> list[Block]:
        facts = [
            ("written", self.file),
            ("holds", f"{many(self.files, 'file')}, {many(self.folders, 'folder')}"),
            ("unknown", f"{many(len(self.unreadable), 'file')} could not be read"),
            ("mode", "0600: it contains the command line, and the kernel's addresses"),
        ]
        more = [Lines(self.unreadable)] if verbose and self.unreadable else []
        return [Facts(facts), *more]
