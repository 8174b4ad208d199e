"""The crash region of this machine: made by the kernel module, shown, and released.

One system call makes the region, and one releases it: whenever a process is interrupted or killed,
there is a complete region or none, and nothing needs to be repaired.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from errno import (
    EAGAIN,
    EBUSY,
    EEXIST,
    EFAULT,
    EINVAL,
    ENOENT,
    ENOEXEC,
    ENOMEM,
    EPERM,
    ERANGE,
)
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.record import unloading
from pykexec.backends.kernel.region_rules import ModulesRefused, NoModule, is_wanted, refusal
from pykexec.backends.region import (
    STEP,
    CrashRegion,
    NoContiguousMemory,
    NoRegion,
    Origin,
    RegionExists,
    RegionInUse,
    RegionTooLarge,
    default_size,
    origin,
    present,
)
from pykexec.errors import KexecError, NotSupported
from pykexec.host.lock import Busy
from pykexec.host.module import NAME, REGION_SYMBOLS, read_module
from pykexec.host.root import THIS_MACHINE, Folder
from pykexec.host.running_kernel import addresses
from pykexec.images.contents import OpenFile
from pykexec.machine import Machine, RegionModule, Unknown
from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.boot_protocol import page_size, whole_page_ram
from pykexec.placement.panic_modes import ReservationTooSmall
from pykexec.syscalls import NOT_PERMITTED, SyscallError

if TYPE_CHECKING:
    from pykexec.backends.kernel.backend import KernelBackend
    from pykexec.placement.request import Mode

Done = TypeVar("Done")

PREFERRED = PhysRange(16 << 20, 4 << 30)
"""module/pykexec_region.c:take_pages."""


class WrongKernel(NotSupported):
    """The module does not support this kernel's variables."""

    code = "wrong-kernel"


def show(machine: Machine) -> CrashRegion:
    """The present region, or why none can be made."""
    found = present(machine)
    return replace(found, refusal=None if found.origin else refusal(machine, found.need))


def make(
    backend: KernelBackend,
    size: int | None = None,
    file: Path | None = None,
    forced: bool = False,
    root: Folder = THIS_MACHINE,
) -> CrashRegion:
    """Make a region of `size` bytes, or of what the stub needs; `root` has the installed module and
    /proc/kallsyms. Raises what `refusal` returns, and NoContiguousMemory, Busy, SyscallError."""
    machine = backend.machine()
    opened = OpenFile(file) if file else None
    module = read_module(opened) if opened else None
    wanted = default_size(machine) if size is None else size
    if why := refusal(machine, wanted, module, forced):
        raise why
    if opened is None:
        opened = OpenFile(root.locate(installed(machine).path))
    found = addresses(REGION_SYMBOLS, root)
    values = dict(zip(("region", "lock"), (found[name] for name in REGION_SYMBOLS), strict=True))
    parameters = " ".join(f"{key}={value}" for key, value in {**values, "size": wanted}.items())
    try:
        backend.calls.insert_module(opened, parameters)
    except SyscallError as error:
        raise _explained(error, wanted) from error
    return show(backend.machine())


def installed(machine: Machine) -> RegionModule:
    """The module for the running kernel; `refusal` has checked it."""
    module = machine.modules.region
    if not isinstance(module, RegionModule):
        raise NoModule(
            f"the kernel module {NAME} is not installed", hint="run pykexec region build"
        )
    return module


def with_region(
    backend: KernelBackend, machine: Machine, mode: Mode | None, run: Callable[[], Done]
) -> Done:
    """Run a load, making a region for it if there is none and the module is available; if the load
    fails, release it. If a large image needs more, the region is made again. Raises what `make` and
    the load raise."""
    if not is_wanted(machine, mode):
        return run()
    size: int | None = None
    for last in (False, True):
        with backend.session():
            make(backend, size)
        try:
            return run()
        except BaseException as error:
            with suppress(KexecError), backend.session():
                release(backend)
            if last or not isinstance(error, ReservationTooSmall):
                raise
            need = error.facts["need"]
            assert isinstance(need, int)
            size = align_up(need, STEP)
    raise AssertionError("the last attempt returns or raises")


def with_expected_region(machine: Machine, mode: Mode | None) -> Machine:
    """The machine as a load would find it, for a dry run: with the region that it would make, at an
    assumed place. Raises what `refusal` returns."""
    if not is_wanted(machine, mode) or isinstance(machine.memory_map, Unknown):
        return machine
    size = default_size(machine)
    if why := refusal(machine, size):
        raise why
    return with_assumed_region(machine, size)


def with_assumed_region(machine: Machine, size: int) -> Machine:
    """The machine with a region of `size` bytes at an assumed place. Raises NoHole."""
    room = whole_page_ram(machine) - (machine.kernel_image or RangeSet())
    try:
        region = locate_hole(room, size, align=page_size(machine), window=PREFERRED)
    except NoHole:  # RAM of many arm64 machines starts above 4 GiB
        region = locate_hole(room, size, align=page_size(machine))
    return replace(machine, crash_kernel=RangeSet((region,)))


LOG = "run dmesg | grep pykexec_region to see the reason"


def _explained(error: SyscallError, size: int) -> KexecError:
    """An errno of the module, or of the module loader (kernel/module/main.c)."""
    kinds: dict[int, tuple[type[KexecError], str, str]] = {
        EBUSY: (RegionExists, "there is a crash region already", "see pykexec region show"),
        EEXIST: (
            RegionExists,
            f"the module {NAME} is inserted already",
            "run pykexec region release",
        ),
        ENOMEM: (
            NoContiguousMemory,
            f"no {size >> 10} KiB of contiguous memory outside of the movable zone",
            "free memory first, use a smaller size, or boot with crashkernel=",
        ),
        ERANGE: (RegionTooLarge, f"the module refuses a region of {size} bytes", LOG),
        EFAULT: (WrongKernel, "this kernel's crashk_res or __kexec_lock is not as expected", LOG),
        EAGAIN: (Busy, "another process holds the kexec lock", "wait until its load is done"),
        EPERM: (
            ModulesRefused,
            "the kernel refuses to insert a module: lockdown, or a missing capability",
            "run as root; where lockdown is active, sign the module with an enrolled key",
        ),
        **dict.fromkeys(
            (ENOEXEC, ENOENT, EINVAL),
            (
                WrongKernel,
                "the kernel refuses the module",
                "run pykexec region build, or see dmesg for the reason",
            ),
        ),
    }
    if error.errno in kinds:
        kind, message, hint = kinds[error.errno]
    elif error.errno in NOT_PERMITTED:
        kind, message = ModulesRefused, "the kernel refuses the module's signature"
        hint = "sign it with a key that is enrolled (mokutil)"
    else:
        return error
    return kind(f"{message} ({error.message})", hint=hint, errno=error.errno)


def release(backend: KernelBackend) -> CrashRegion:
    """Release the memory of a region made by the module. Raises NoRegion, RegionInUse, RegionExists
    for a region reserved at boot, NotSupported, SyscallError."""
    machine = backend.machine()
    made = origin(machine)
    if made is None and not machine.modules.region_inserted:
        raise NoRegion("there is no crash region", hint="run pykexec region make")
    if made is Origin.BOOT:
        raise RegionExists(
            "the crash region was reserved at boot by crashkernel=",
            hint="echo 0 > /sys/kernel/kexec_crash_size releases it until the next boot",
        )
    if machine.kexec.crash_loaded:
        raise RegionInUse("a crash image is loaded", hint=unloading(Slot.CRASH))
    before = show(machine)
    if machine.modules.region_inserted:
        backend.calls.remove_module(NAME)
    else:  # the module was removed while an image was loaded
        backend.calls.set_crash_size(0)
    after = backend.machine()
    if origin(after):
        raise RegionInUse(
            "an image was loaded meanwhile, so the region was kept", hint=unloading(Slot.CRASH)
        )
    return replace(before, refusal=None)
