"""The first half of a load, without any effect; all that a dry run needs.

bytes -> KernelImage -> PlacementPlan -> SegmentTable -> checks
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.placement.implied import with_implied
from pykexec.placement.kernel_rules import Check, check_plan, refuse_broken
from pykexec.placement.plan import LoadRequest, PlacementPlan, segment_table
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
    return decide(identify(kernel, image_type, request.profile), machine, request)


def decide(image: KernelImage, machine: Machine, request: LoadRequest) -> Planned:
    """The plan of a parsed image, with every rule of the kernel checked."""
    decided = plan_load(image, machine, with_implied(image, request))
    checks = check_plan(decided, machine)
    refuse_broken(checks)
    return Planned(decided, segment_table(decided), checks)
