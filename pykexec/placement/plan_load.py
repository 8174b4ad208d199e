"""The decision, by kind of load."""

from __future__ import annotations

from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.placement.crash_by_normal import plan_crash_by_normal
from pykexec.placement.crash_load import plan_crash
from pykexec.placement.normal_load import plan_normal
from pykexec.placement.panic_modes import plan_panic
from pykexec.placement.plan import PANIC_MODES, ImageKind, LoadRequest, PlacementPlan

PLANNERS = {
    ImageKind.NORMAL: plan_normal,
    ImageKind.CRASH: plan_crash,
    ImageKind.CRASH_BY_NORMAL: plan_crash_by_normal,
}


def plan_load(image: KernelImage, machine: Machine, request: LoadRequest) -> PlacementPlan:
    """Which thing goes where, and why. Pure. Raises DoesNotFit, UsageError or NotSupported."""
    if request.kind is ImageKind.CRASH_BY_NORMAL and request.mode in PANIC_MODES:
        return plan_panic(image, machine, request)
    return PLANNERS[request.kind](image, machine, request)
