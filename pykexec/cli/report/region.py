"""The results of `region`: a crash region, and the kernel module that makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts
from pykexec.cli.report.page_parts import Pairs, size
from pykexec.cli.terms import PYKEXEC
from pykexec.documents.base import span
from pykexec.documents.region import BuiltModule, ModuleFile, Refusal, Region

if TYPE_CHECKING:
    from pykexec.backends.region import CrashRegion
    from pykexec.cli.report.target import Target
    from pykexec.machine import RegionModule


@dataclass(frozen=True)
class RegionReport:
    """A region; `change` is "made" or "released"."""

    target: Target
    region: CrashRegion
    change: str | None = None

    def document(self) -> Region:
        found, module = self.region, self.region.module
        return Region(
            backend=self.target.backend,
            change=self.change,
            origin=found.origin.value if found.origin else None,
            region=span(found.span) if found.span else None,
            size=found.size,
            need=found.need,
            module=ModuleFile(module.path, module.release or None, _truth(module.signed))
            if module
            else None,
            refusal=Refusal(found.refusal.code, found.refusal.message) if found.refusal else None,
        )

    def page(self, verbose: int) -> list[Block]:
        found = self.region
        where = f"{found.span} ({size(found.size)})" if found.span else size(found.size)
        facts = [("region", f"{where}, made at {found.origin}" if found.origin else "none")]
        if self.change == "released":
            facts = [("region", f"released: {where}")]
        facts.append(("need", f"{size(found.need)} for a crash by normal"))
        if self.target.backend == "kernel":
            facts += _module_facts(found.module)
        if found.refusal:
            facts.append(("cannot be made", found.refusal.message))
            hint = found.refusal.hint_in(PYKEXEC)
            facts += [("hint", hint)] if hint else []
        return [Facts([*facts, ("backend", str(self.target))])]


@dataclass(frozen=True)
class BuiltReport:
    """The module that was built."""

    module: RegionModule

    def document(self) -> BuiltModule:
        module = self.module
        return BuiltModule(module.path, module.release or None, _truth(module.signed))

    def page(self, verbose: int) -> list[Block]:
        return [Facts(_module_facts(self.module))]


def _truth(found: object) -> bool | None:
    """None for a fact that the file does not have."""
    return found if isinstance(found, bool) else None


def _module_facts(found: RegionModule | None) -> Pairs:
    if found is None:
        return [("module", "not installed for this kernel")]
    signed = {True: "signed", False: "not signed"}.get(bool(found.signed), "")
    if not isinstance(found.signed, bool):
        signed = f"signature {found.signed}"
    return [("module", f"{found.path}, for {found.release}, {signed}")]
