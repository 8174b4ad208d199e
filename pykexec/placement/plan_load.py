"""The decision, by kind of load: each kind is a module, imported when it is asked for."""

from __future__ import annotations

from dataclasses import replace

from pykexec.errors import NotSupported, UsageError
from pykexec.images.kernel_image import (
    ElfBoot,
    ForeignImage,
    KernelImage,
    Linux32Boot,
    LinuxX86Boot,
    MultibootBoot,
)
from pykexec.machine import Machine
from pykexec.placement.capture import size_advised
from pykexec.placement.granted import DRY_RUN, Granted
from pykexec.placement.implied import implied_notes
from pykexec.placement.plan import NormalPlan, Plan
from pykexec.placement.request import PANIC_MODES, ImageKind, LoadRequest
from pykexec.placement.x86.encryption import refuse_confidential


class ForeignArchitecture(NotSupported):
    """An image that was recognised, and that this pykexec does not load."""

    code = "foreign-image"


def plan_load(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted = DRY_RUN
) -> Plan:
    """Which thing goes where, and why. Pure. `request` is complete (`implied.with_implied`).
    Raises DoesNotFit, UsageError or NotSupported."""
    plan = planned(image, machine, request, granted)
    notes = implied_notes(image, request)
    return replace(plan, warnings=(*plan.warnings, *notes)) if notes else plan


def planned(image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted) -> Plan:
    refuse_confidential(machine)
    if machine.is_i386 and is_64_bit(image):
        raise NotSupported(
            f"{image.path} is of type {image.type}, but the running kernel is a 32-bit kernel",
            hint="use --type bzImage to start a bzImage by its 32-bit entry",
        )
    if request.modules and not isinstance(image.boot, MultibootBoot):
        raise UsageError(
            f"--module has no effect: {image.path} is of type {image.type}",
            hint="use --module only with multiboot images",
        )
    if request.real_mode:
        from pykexec.placement.x86.real_mode import plan_real_mode

        return plan_real_mode(image, machine, request)
    if isinstance(image.boot, ForeignImage):
        raise ForeignArchitecture(
            f"{image.path}: {image.boot.why}",
            hint="use pykexec inspect to see what is in it",
            type=image.type,
        )
    if request.kind is ImageKind.NORMAL:
        return plan_normal(image, image.boot, machine, request, granted)
    with size_advised(image, request):
        return plan_capture(image, machine, request, granted)


def plan_capture(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
) -> Plan:
    """A capture kernel, by where it waits."""
    if request.kind is ImageKind.CRASH:
        from pykexec.placement.crash_load import plan_crash

        return plan_crash(image, machine, request, granted)
    if (granted.mode or request.mode) in PANIC_MODES:
        from pykexec.placement.panic_modes import plan_panic

        return plan_panic(image, machine, request, granted)
    from pykexec.placement.crash_by_normal import plan_crash_by_normal

    return plan_crash_by_normal(image, machine, request, granted)


def is_64_bit(image: KernelImage) -> bool:
    """Whether it may lie, or is entered, where a 32-bit kernel does not reach."""
    boot = image.boot
    return isinstance(boot, LinuxX86Boot) or (isinstance(boot, ElfBoot) and boot.bits == 64)


def plan_normal(
    image: KernelImage,
    boot: LinuxX86Boot | Linux32Boot | ElfBoot | MultibootBoot,
    machine: Machine,
    request: LoadRequest,
    granted: Granted,
) -> NormalPlan:
    """By what is to be booted, which each planner gets as what it is."""
    match boot:
        case LinuxX86Boot():
            from pykexec.placement.x86.linux64 import plan_linux_x86_64

            return plan_linux_x86_64(image, boot, machine, request, granted)
        case Linux32Boot():
            from pykexec.placement.x86.linux32 import plan_linux_i386

            return plan_linux_i386(image, boot, machine, request, granted)
        case ElfBoot():
            from pykexec.placement.x86.elf_image import plan_elf

            return plan_elf(image, boot, machine, request)
        case MultibootBoot():
            from pykexec.placement.x86.multiboot import plan_multiboot

            return plan_multiboot(image, boot, machine, request)
