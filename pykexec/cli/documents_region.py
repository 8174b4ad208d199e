"""The documents of crash regions and of the module that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.documents.base import span
from pykexec.documents.region import BuiltModule, ModuleFile, Refusal, Region

if TYPE_CHECKING:
    from pykexec.cli.reports import BuiltReport, RegionReport


def region(report: RegionReport) -> Region:
    found, module = report.region, report.region.module
    return Region(
        backend=report.target.backend,
        change=report.change,
        origin=found.origin.value if found.origin else None,
        region=span(found.span) if found.span else None,
        size=found.size,
        need=found.need,
        module=ModuleFile(module.path, module.release or None, truth(module.signed))
        if module
        else None,
        refusal=Refusal(found.refusal.code, found.refusal.message) if found.refusal else None,
    )


def region_build(report: BuiltReport) -> BuiltModule:
    module = report.module
    return BuiltModule(module.path, module.release or None, truth(module.signed))


def truth(found: object) -> bool | None:
    """None for what a file does not show."""
    return found if isinstance(found, bool) else None
