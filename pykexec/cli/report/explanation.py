"""The result of `explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Lines, Table
from pykexec.cli.report.page_parts import verdict
from pykexec.documents.findings import ExplainedCheck, ExplainedError, ExplainedRule, Explanation

if TYPE_CHECKING:
    from pykexec.flows.explain import ErrorKind, KernelCheck, Verdict

CHECK_HEAD = ("call", "stage", "errno", "the kernel checks that", "what helps")
PLAN_HEAD = ("rule", "", "found", "the kernel's result")


@dataclass(frozen=True)
class ExplainReport:
    """`plan` has a verdict for each rule, if a plan was given."""

    word: str
    checks: tuple[KernelCheck, ...] = ()
    kind_of_error: ErrorKind | None = None
    plan: tuple[Verdict, ...] | None = None

    def document(self) -> Explanation:
        kind = self.kind_of_error
        plan = (
            ExplainedRule(item.rule, item.ok, item.detail, item.answer) for item in self.plan or ()
        )
        return Explanation(
            self.word,
            tuple(map(_kernel_check, self.checks)),
            ExplainedError(kind.code, kind.meaning, kind.exit_status) if kind else None,
            None if self.plan is None else tuple(plan),
        )

    def page(self, verbose: int) -> list[Block]:
        page: list[Block] = []
        if kind := self.kind_of_error:
            page.append(Lines([f"{kind.code}: {kind.meaning}", f"exit status {kind.exit_status}"]))
        elif not self.checks:
            page.append(Lines([f"{self.word}: kexec never returns this"]))
        if self.checks:
            rows = [(c.syscall, c.stage, c.errno, c.check, c.fix) for c in self.checks]
            page.append(Table(CHECK_HEAD, rows, 2))
        if self.plan is not None:
            found = [(v.rule, verdict(v.ok), v.detail, v.answer) for v in self.plan]
            page.append(Table(PLAN_HEAD, found, 2))
        return page


def _kernel_check(item: KernelCheck) -> ExplainedCheck:
    return ExplainedCheck(item.syscall, item.stage, item.errno, item.check, item.fix, item.rules)
