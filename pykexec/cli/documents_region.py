"""The documents of crash regions and of the module that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.documents import Document, span

if TYPE_CHECKING:
    from pykexec.cli.reports import BuiltReport, RegionReport
    from pykexec.machine import RegionModule


def region(report: RegionReport) -> Document:
    """pykexec.region/1"""
    found = report.region
    return {
        "schema": "pykexec.region/1",
        "backend": report.target.backend,
        "change": report.change,
        "origin": str(found.origin) if found.origin else None,
        "region": span(found.span) if found.span else None,
        "size": found.size,
        "need": found.need,
        "module": module(found.module) if found.module else None,
        "refusal": (
            {"code": found.refusal.code, "message": found.refusal.message}
            if found.refusal
            else None
        ),
    }


def module(found: RegionModule) -> Document:
    """null for what its file does not show."""
    return {
        "path": found.path,
        "release": found.release or None,
        "signed": found.signed if isinstance(found.signed, bool) else None,
    }


def region_build(report: BuiltReport) -> Document:
    """pykexec.region-build/1"""
    return {"schema": "pykexec.region-build/1", **module(report.module)}
