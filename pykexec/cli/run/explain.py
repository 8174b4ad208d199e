"""What `explain` does."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.cli.nearest import did_you_mean
from pykexec.cli.output import Output
from pykexec.cli.report.explanation import ExplainReport
from pykexec.documents.plan import read_plan
from pykexec.errors import UsageError
from pykexec.flows.explain import error_kinds, explain_code, explain_errno, verdicts

if TYPE_CHECKING:
    from pathlib import Path


def run(word: str, plan: Path | None, as_json: bool, verbose: int) -> None:
    report = explain(word)
    if plan:
        report = replace(report, plan=verdicts(read_plan(plan)))
    Output(as_json, verbose).show(report)


def explain(word: str) -> ExplainReport:
    """Raises UsageError for a word that is neither an errno nor a code."""
    try:
        return ExplainReport(word.upper(), explain_errno(word))
    except UsageError:
        kind = explain_code(word.lower())
    if kind is None:
        known = (*errno.errorcode.values(), *error_kinds())
        raise UsageError(
            f"{word[:40]!r} is neither an errno nor an error code of pykexec"
            f"{did_you_mean(word, known)}",
            hint="use an errno such as EADDRNOTAVAIL, or the code of a JSON error document",
        )
    return ExplainReport(word.lower(), kind_of_error=kind)
