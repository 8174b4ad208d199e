"""What was found out, drawn on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from pykexec.cli import plain, plain_findings
from pykexec.cli.render import VERDICT_STYLES, facts, grid, plain_lines, segment_grid

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        CapturedReport,
        DoctorReport,
        ExplainReport,
        MachineReport,
    )
    from pykexec.crash.core_file import CoreFile
    from pykexec.placement.kernel_rules import Check
    from pykexec.rehearse import Rehearsal
    from pykexec.vmcore_check import VmcoreVerdict

LEVEL_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "magenta"}


def checks(items: Iterable[Check]) -> RenderableType:
    rows = [(item.rule, plain.verdict(item.ok), item.detail) for item in items]
    return grid(("check", "", "found"), rows, 1, [VERDICT_STYLES[row[1]] for row in rows])


def rehearsal(report: Rehearsal, verbose: int = 0) -> RenderableType:
    verdict = plain_findings.rehearsal_verdict(report)
    style = "bold green" if report.good else "bold red"
    table = report.load.table
    return Group(
        *([segment_grid(table)] if table else []),
        facts(plain_findings.rehearsal_facts(report)),
        checks(report.checks),
        Text(verdict, style),
    )


def vmcore_info(core: CoreFile, verbose: int = 0) -> RenderableType:
    """PT_LOADs never go into a rich table: ten thousand take twelve seconds."""
    if verbose:
        return plain_lines(plain_findings.vmcore_info(core, verbose))
    return facts(plain_findings.vmcore_facts(core))


def vmcore_verdict(verdict: VmcoreVerdict, verbose: int = 0) -> RenderableType:
    style = "bold green" if verdict.whole else "bold red"
    line = plain_findings.whole_line(verdict)
    return Group(vmcore_info(verdict.core, verbose), checks(verdict.checks), Text(line, style))


def machine(report: MachineReport, verbose: int = 0) -> RenderableType:
    if verbose:
        return plain_lines(plain_findings.machine(report, verbose))
    rows = plain_findings.map_rows(report)
    return Group(
        facts(plain_findings.machine_facts(report)), grid(plain_findings.MAP_HEAD, rows, 1)
    )


def captured(report: CapturedReport, verbose: int = 0) -> RenderableType:
    return plain_lines(plain_findings.captured(report, verbose))


def doctor(report: DoctorReport, verbose: int = 0) -> RenderableType:
    rows = [(str(row.level), row.name, row.evidence, row.fix) for row in report.rows]
    table = grid(("", "what", "found", "fix"), rows, 2, [LEVEL_STYLES[row[0]] for row in rows])
    return Group(table, Text(plain_findings.doctor_verdict(report), "bold"))


def explanation(report: ExplainReport, verbose: int = 0) -> RenderableType:
    parts: list[RenderableType] = []
    if report.kind_of_error or not report.checks:
        lines = plain_findings.explanation(report, verbose)
        return plain_lines(lines)
    parts.append(grid(plain_findings.CHECK_HEAD, plain_findings.kernel_rows(report), 2))
    if report.plan is not None:
        parts.append(grid(plain_findings.PLAN_HEAD, plain_findings.plan_rows(report), 2))
    return Group(*parts)
