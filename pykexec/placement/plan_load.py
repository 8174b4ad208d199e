"""The decision, by kind of load: each kind is a module, imported when it is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.placement.boot_protocol import boot_protocol, refuse_confidential
from pykexec.placement.capture_kernel import size_advised
from pykexec.placement.foreign import refuse_foreign
from pykexec.placement.granted import DRY_RUN, Granted
from pykexec.placement.implied import implied_notes
from pykexec.placement.request import PANIC_MODES, ImageKind, LoadRequest

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.plan import Plan


def plan_load(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted = DRY_RUN
) -> Plan:
    """Decides what goes where, and why. Pure. `request` is complete (`implied.with_implied`).
    Raises DoesNotFit, UsageError or NotSupported."""
    plan = _planned(image, machine, request, granted)
    notes = implied_notes(image, request)
    return replace(plan, warnings=(*plan.warnings, *notes)) if notes else plan


def _planned(image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted) -> Plan:
    refuse_confidential(machine)
    refuse_foreign(image)
    protocol = boot_protocol(machine)
    protocol.refuse(image, machine, request)
    if request.kind is ImageKind.NORMAL:
        return protocol.plan_normal(image, machine, request, granted)
    with size_advised(image, machine, request):
        return _plan_capture(image, machine, request, granted)


def _plan_capture(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
) -> Plan:
    """A capture kernel, by the place that holds it until a crash."""
    if request.kind is ImageKind.CRASH:
        from pykexec.placement.crash_load import plan_crash

        return plan_crash(image, machine, request, granted)
    if (granted.mode or request.mode) in PANIC_MODES:
        from pykexec.placement.panic_modes import plan_panic

        return plan_panic(image, machine, request, granted)
    from pykexec.placement.crash_by_normal import plan_crash_by_normal

    return plan_crash_by_normal(image, machine, request, granted)
