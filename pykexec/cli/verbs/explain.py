"""pykexec explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, Verb, output_options

if TYPE_CHECKING:
    from pykexec.cli.report.explanation import ExplainReport


@click.command(cls=Verb, short_help="Explain an errno of the kernel or an error code.")
@click.argument("word", metavar="ERRNO-or-CODE")
@click.option(
    "--plan",
    type=PATH,
    metavar="FILE",
    help="Show which rule the plan in FILE (load --json) would break.",
)
@output_options
def command(word: str, plan: Path | None, as_json: bool, verbose: int) -> None:
    """List the checks of the kernel that fail with an errno (EPERM, or its number), in their
    order; or explain an error code of pykexec."""
    from dataclasses import replace

    from pykexec.cli.output import Output
    from pykexec.documents.plan import read_plan
    from pykexec.flows.explain import verdicts

    report = explain(word)
    if plan:
        report = replace(report, plan=verdicts(read_plan(plan)))
    Output(as_json, verbose).show(report)


def explain(word: str) -> ExplainReport:
    """Raises UsageError for a word that is neither."""
    from pykexec.cli.report.explanation import ExplainReport
    from pykexec.errors import UsageError
    from pykexec.flows.explain import explain_code, explain_errno

    try:
        return ExplainReport(word.upper(), explain_errno(word))
    except UsageError:
        kind = explain_code(word.lower())
    if kind is None:
        raise UsageError(
            f"{word[:40]!r} is neither an errno nor one of our codes",
            hint="e.g. EADDRNOTAVAIL, or the code of a JSON error document",
        )
    return ExplainReport(word.lower(), kind_of_error=kind)
