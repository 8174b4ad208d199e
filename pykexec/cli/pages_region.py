"""Pages of crash regions and of the module that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts
from pykexec.cli.pages import Pairs, size, target

if TYPE_CHECKING:
    from pykexec.cli.reports import BuiltReport, RegionReport
    from pykexec.machine import RegionModule


def region(report: RegionReport, verbose: int = 0) -> list[Block]:
    found = report.region
    where = f"{found.span} ({size(found.size)})" if found.span else size(found.size)
    facts = [("region", f"{where}, made at {found.origin}" if found.origin else "none")]
    if report.change == "released":
        facts = [("region", f"released: {where}")]
    facts.append(("need", f"{size(found.need)} for a crash by normal"))
    if report.target.backend == "kernel":
        facts += module(found.module)
    if found.refusal:
        facts.append(("cannot be made", found.refusal.message))
        facts += [("hint", found.refusal.hint)] if found.refusal.hint else []
    return [Facts([*facts, ("backend", target(report.target))])]


def module(found: RegionModule | None) -> Pairs:
    if found is None:
        return [("module", "not installed for this kernel")]
    signed = {True: "signed", False: "not signed"}.get(bool(found.signed), "")
    if not isinstance(found.signed, bool):
        signed = f"signature {found.signed}"
    return [("module", f"{found.path}, for {found.release}, {signed}")]


def region_build(report: BuiltReport, verbose: int = 0) -> list[Block]:
    return [Facts(module(report.module))]
