"""The result of `load` with kexec_file_load(2), loaded or planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts
from pykexec.cli.report import document_parts, page_parts
from pykexec.documents.load import FileLoad

if TYPE_CHECKING:
    from pykexec.cli.report.target import Target
    from pykexec.flows.file_load import FilePlan
    from pykexec.placement.syscall_choice import SyscallChoice


@dataclass(frozen=True)
class FileLoadReport:
    """The arguments of kexec_file_load: `loaded` is false after a dry run."""

    target: Target
    plan: FilePlan
    syscall: SyscallChoice
    loaded: bool

    @property
    def effect(self) -> str:
        """What has happened; "" after a dry run."""
        return f"the {self.plan.slot} image is loaded" if self.loaded else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.plan.warnings

    @property
    def notes(self) -> tuple[str, ...]:
        """For -v."""
        return self.plan.notes

    def document(self) -> FileLoad:
        plan = self.plan
        return FileLoad(
            backend=self.target.backend,
            image=plan.slot.value,
            state="loaded" if self.loaded else "requested",
            flags=tuple(str(flag.name) for flag in plan.flags),
            kernel=document_parts.kernel(plan.image),
            cmdline=str(plan.cmdline),
            cmdline_words=document_parts.words(plan.cmdline),
            syscall=document_parts.syscall(self.syscall),
        )

    def page(self, verbose: int) -> list[Block]:
        """The kernel does not report where it places the image."""
        plan = self.plan
        loaded = f"loaded ({plan.slot} slot), placed by the kernel"
        planned = "dry run, nothing loaded: the kernel will place it"
        facts = [
            ("image", str(plan.slot)),
            ("kernel", page_parts.kernel(plan.image)),
            ("flags", " | ".join(str(flag.name) for flag in plan.flags) or "0"),
            ("cmdline", str(plan.cmdline)),
            ("syscall", f"{self.syscall.syscall}: {self.syscall.why}"),
            ("backend", str(self.target)),
            ("state", loaded if self.loaded else planned),
        ]
        return [Facts(facts), page_parts.words(plan.cmdline)] if verbose else [Facts(facts)]
