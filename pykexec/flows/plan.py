"""The first half of a load, without any effect; all that a dry run needs.

bytes -> KernelImage -> PlacementPlan -> SegmentTable -> checks
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.kernel_rules import Check, check_plan, refuse_broken
from pykexec.placement.plan import (
    NOT_CHECKED,
    InitrdVerdict,
    LoadRequest,
    PlacementPlan,
    segment_table,
)
from pykexec.placement.plan_load import plan_load
from pykexec.placement.segment import SegmentTable


@dataclass(frozen=True)
class Planned:
    """Everything that is known before anything happens."""

    plan: PlacementPlan
    table: SegmentTable
    checks: tuple[Check, ...]


def plan(
    kernel: str | os.PathLike[str],
    machine: Machine,
    request: LoadRequest,
    image_type: str | None = None,
) -> Planned:
    """Decide and check, without any effect. Raises KexecError with the first refusal."""
    image = identify(kernel, image_type, request.profile)
    return decide(image, machine, request, check_initrd(image, with_implied(image, request)))


def decide(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    initrd: InitrdVerdict = NOT_CHECKED,
) -> Planned:
    """The plan of a parsed image, with every rule of the kernel checked; `initrd` is what
    check_initrd said, which reads files and is asked once."""
    decided = replace(plan_load(image, machine, with_implied(image, request)), initrd=initrd)
    checks = check_plan(decided, machine)
    refuse_broken(checks)
    return Planned(decided, segment_table(decided), checks)
