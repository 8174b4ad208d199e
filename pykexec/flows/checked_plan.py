"""The first half of a load, without any effect; a dry run consists of it.

bytes -> KernelImage -> Plan -> SegmentTable -> checks
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.images.identify import identify
from pykexec.placement.granted import DRY_RUN, Granted
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.kernel_rules import Check, check_plan, refuse_broken
from pykexec.placement.plan import NOT_CHECKED, InitrdVerdict, Plan, segment_table
from pykexec.placement.plan_load import plan_load

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.segment import SegmentTable


@dataclass(frozen=True)
class CheckedPlan:
    """Everything that is known before anything is loaded."""

    plan: Plan
    table: SegmentTable
    checks: tuple[Check, ...]


def plan(
    kernel: str | os.PathLike[str],
    machine: Machine,
    request: LoadRequest,
    image_type: str | None = None,
) -> CheckedPlan:
    """Decide and check, without any effect. Raises KexecError for the first rule that is broken."""
    image = identify(kernel, image_type, request.profile)
    complete = with_implied(image, request)
    return decide(image, machine, complete, initrd=check_initrd(image, complete))


def decide(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    granted: Granted = DRY_RUN,
    initrd: InitrdVerdict = NOT_CHECKED,
) -> CheckedPlan:
    """The plan for a parsed image and a complete request, with every rule of the kernel checked;
    `initrd` is the verdict of check_initrd, which reads files and is called once."""
    decided = replace(plan_load(image, machine, request, granted), initrd=initrd)
    checks = check_plan(decided, machine)
    refuse_broken(checks)
    return CheckedPlan(decided, segment_table(decided), checks)
