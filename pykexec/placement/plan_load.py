"""The decision, by kind of load: each kind is a module, imported when it is asked for."""

from __future__ import annotations

from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.placement.plan import PANIC_MODES, ImageKind, LoadRequest, PlacementPlan


def plan_load(image: KernelImage, machine: Machine, request: LoadRequest) -> PlacementPlan:
    """Which thing goes where, and why. Pure. Raises DoesNotFit, UsageError or NotSupported."""
    if request.kind is ImageKind.NORMAL:
        from pykexec.placement.normal_load import plan_normal as planner
    elif request.kind is ImageKind.CRASH:
        from pykexec.placement.crash_load import plan_crash as planner
    elif request.mode in PANIC_MODES:
        from pykexec.placement.panic_modes import plan_panic as planner
    else:
        from pykexec.placement.crash_by_normal import plan_crash_by_normal as planner
    return planner(image, machine, request)
