"""A load: the image, the request, and the choice of the system call."""

from __future__ import annotations

import os
from dataclasses import replace
from errno import EINVAL, ENOEXEC, ENOSYS, ENOTSUP
from typing import TYPE_CHECKING

from pykexec.abi.kexec import KexecFileFlag
from pykexec.cli.kexec8 import shown
from pykexec.cli.kexec8.image import PLAIN_ELF, find_image
from pykexec.cli.kexec8.name import NAME
from pykexec.cli.kexec8.say import say
from pykexec.cli.kexec8.terms import KEXEC8
from pykexec.cli.kexec8.wishes import BadSerial, Call, Wishes, legacy_port
from pykexec.errors import NotPermitted, NotSupported
from pykexec.flows.checked_plan import decide
from pykexec.flows.file_load import hand_over
from pykexec.images.device_tree_file import device_tree_file
from pykexec.images.kernel_image import ElfBoot, KernelImage, LinuxArm64Boot
from pykexec.images.module_file import module_contents
from pykexec.images.unwrapped import has_kernel_loader
from pykexec.machine import Machine, PcFirmware, SerialConsole, Unknown
from pykexec.placement.cmdline import CommandLineTooLong
from pykexec.placement.granted import RNG_SEED_SIZE, Granted
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.request import ImageKind, LoadRequest, Module
from pykexec.placement.reservation import NothingReserved
from pykexec.placement.syscall_choice import needing_load, why_load_is_refused
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.cli.kexec8.drop_in import DropInKernel
    from pykexec.images.contents import Contents

FALLS_BACK = frozenset((ENOSYS, EINVAL, ENOEXEC, ENOTSUP))
"""With -a, kexec_load is tried after these errors, as in kexec-tools: this kernel does not support
the call or the image. Forbidden loads stay forbidden."""


def load(asked: Wishes, kernel: DropInKernel, initrd: Contents | None) -> None:
    """Raises KexecError, and then the state of the kernel is unchanged."""
    assert asked.kernel is not None
    image = find_image(asked.kernel, asked.type, asked.args)
    if asked.args and not isinstance(image.boot, ElfBoot) and image.type not in PLAIN_ELF:
        say([f"{NAME}: note: --args-{asked.args} has no effect: {image.path} is a {image.type}"])
    machine = facts(asked, kernel)
    request = _request_of(asked, initrd, machine, kernel)
    if isinstance(image.boot, LinuxArm64Boot):
        request = replace(request, dtb=device_tree_file(asked.dtb))
    elif asked.dtb:
        say([f"{NAME}: note: --dtb has no effect: x86 boots without a device tree"])
    _check_panic(asked, machine)
    why = _why_kexec_load(asked, image, machine, request)
    with kernel.session():
        if why is None:
            try:
                _by_file(asked, image, kernel, request)
                return
            except CommandLineTooLong as error:
                if asked.call is Call.FILE:
                    raise
                why = error.message
            except SyscallError as error:
                if asked.call is Call.FILE or error.errno not in FALLS_BACK:
                    raise
                why = error.message
        if asked.debug:
            say([f"{NAME}: using kexec_load(2): {why}"])
        _by_table(asked, image, kernel, request, machine)


def facts(asked: Wishes, kernel: DropInKernel) -> Machine:
    """The machine, without EFI if it must not be passed on."""
    machine = kernel.machine()
    return machine if asked.efi else machine.without_efi()


def _serial(asked: str, machine: Machine, kernel: DropInKernel) -> int | SerialConsole:
    """An I/O port on x86, otherwise the UART of a tty. Raises BadSerial."""
    if isinstance(machine.firmware, PcFirmware):
        return legacy_port(asked)
    found = kernel.uart(asked)
    if isinstance(found, SerialConsole):
        return found
    raise BadSerial(asked, "the name of a UART in /sys/class/tty, such as ttyAMA0")


def _request_of(
    asked: Wishes, initrd: Contents | None, machine: Machine, kernel: DropInKernel
) -> LoadRequest:
    """A capture kernel gets the words that kexec-tools adds, and no others."""
    return LoadRequest(
        kind=ImageKind.CRASH if asked.panic else ImageKind.NORMAL,
        initrd=initrd,
        append=asked.append,
        reuse_cmdline=asked.reuse_cmdline,
        mem_min=asked.mem_min,
        mem_max=asked.mem_max,
        entry=asked.entry,
        direct=asked.args == "none",
        hotplug=asked.hotplug,
        initrd_check=False,
        checks=asked.checks,
        serial_port=_serial(asked.serial, machine, kernel) if asked.serial else None,
        real_mode=asked.real_mode,
        modules=tuple(Module(module_contents(line), line) for line in asked.modules),
        capture_words=(),
    )


def _check_panic(asked: Wishes, machine: Machine) -> None:
    """Refuse what makes a capture kernel useless, with either system call."""
    if not asked.panic:
        return
    reserved = machine.crash_kernel
    if not isinstance(reserved, Unknown) and not reserved:
        raise NothingReserved(
            "there is no crash region",
            hint="boot with crashkernel=256M, or use pykexec load --crash-by-normal",
        )
    if asked.hotplug and isinstance(machine.kexec.crash_elfcorehdr_size, Unknown):
        raise NotSupported(
            f"--hotplug: {machine.kexec.crash_elfcorehdr_size}",
            hint="the kernel needs CONFIG_CRASH_HOTPLUG (6.6 and later)",
        )


def _why_kexec_load(
    asked: Wishes, image: KernelImage, machine: Machine, request: LoadRequest
) -> str | None:
    """The reason not to use kexec_file_load; None if it is used. Decided from facts: every call,
    even as a trial, counts against a load limit."""
    if asked.call is Call.CLASSIC:
        return "-c"
    if asked.call is Call.FILE:
        return None
    needs = [KEXEC8[wish] for wish in needing_load(request, asked.type)]
    needs += [] if asked.efi else ["--noefi"]
    if needs:
        refused = why_load_is_refused(machine)
        if refused:
            raise NotPermitted(f"{refused}, and {needs[0]} needs it", hint=f"without {needs[0]}")
        return f"{needs[0]} needs it"
    if not has_kernel_loader(image):
        return f"kexec_file_load cannot load an image of type {image.type}"
    if machine.option("CONFIG_KEXEC_FILE") == "n":
        return "this kernel has no kexec_file_load: CONFIG_KEXEC_FILE is not set"
    return None


def _by_file(asked: Wishes, image: KernelImage, kernel: DropInKernel, request: LoadRequest) -> None:
    if not asked.checks:
        say(
            [
                f"{NAME}: note: --no-checks has no effect: with -s the purgatory of the kernel "
                "always checks"
            ]
        )
    if asked.serial is not None:
        say([f"{NAME}: note: --serial has no effect: the purgatory of the kernel prints nothing"])
    done = hand_over(image, kernel, request, _file_flags(asked))
    say(f"{NAME}: warning: {warning}" for warning in done.warnings)


def _file_flags(asked: Wishes) -> KexecFileFlag:
    """A kernel that does not support a flag returns EINVAL."""
    wanted = {
        KexecFileFlag.KEXEC_FILE_NO_CMA: asked.no_cma,
        KexecFileFlag.KEXEC_FILE_FORCE_DTB: asked.force_dtb,
    }
    flags = KexecFileFlag(0)
    for flag, is_wanted in wanted.items():
        if is_wanted:
            flags |= flag
    return flags


def _by_table(
    asked: Wishes,
    image: KernelImage,
    kernel: DropInKernel,
    request: LoadRequest,
    machine: Machine,
) -> None:
    if asked.force_dtb:
        say([f"{NAME}: note: --force-dtb has no effect without kexec_file_load"])
    complete = with_implied(image, request)
    checked = check_initrd(image, complete)
    granted = Granted(rng_seed=os.urandom(RNG_SEED_SIZE))
    planned = decide(image, machine, complete, granted, checked)
    warnings = (*checked.warnings, *planned.plan.warnings)
    say(f"{NAME}: warning: {warning}" for warning in warnings)
    if asked.debug:
        say(shown.planned(planned))
    kernel.load(planned.table, planned.plan)
