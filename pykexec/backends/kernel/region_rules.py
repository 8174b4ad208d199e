"""Whether a crash region can be made at run time, and if not, why: one decision for doctor, a dry
run, a load and `pykexec region make`. Without side effects."""

from __future__ import annotations

import re

from pykexec.arch import ARM64
from pykexec.backends.region import existing, size_refusal
from pykexec.errors import KexecError, NotPermitted, NotSupported
from pykexec.host.kallsyms import NoSymbol, SymbolsHidden
from pykexec.host.module import NAME, REGION_SYMBOLS
from pykexec.machine import Machine, RegionModule, Unknown
from pykexec.memory.ranges import RangeSet
from pykexec.placement.panic_modes import advised_boot
from pykexec.placement.request import PANIC_MODES, Mode
from pykexec.remedies import Advice, Use, Wish, and_also, any_of

TESTED = {"x86_64": ("6.1", "6.12", "7.2"), "aarch64": ("6.1", "6.12", "7.2")}
"""Tested kernel series, by uname -m: the module writes to variables that the kernel does not
export."""
RODATA_FULL = "CONFIG_RODATA_FULL_DEFAULT_ENABLED"


class NoModule(NotSupported):
    """The module is not installed for the running kernel."""

    code = "no-region-module"


class ModuleOfAnotherKernel(NotSupported):
    """Its vermagic names another release."""

    code = "module-of-another-kernel"


class UntestedKernel(NotSupported):
    """A series that the module was not tested with."""

    code = "untested-kernel"


class NotProtected(NotSupported):
    """A kernel that protects only an image in a region from boot."""

    code = "image-not-protected"


class ModulesRefused(NotPermitted):
    """No privilege, modules_disabled, lockdown, or a missing signature."""

    code = "modules-refused"


def series(release: str) -> str:
    """ "6.1" of "6.1.0-56-cloud-amd64"."""
    found = re.match(r"\d+\.\d+", release)
    return found[0] if found else release


def refusal(
    machine: Machine, size: int, module: RegionModule | None = None, forced: bool = False
) -> KexecError | None:
    """Why no region of `size` bytes can be made, before anything is tried; None if it can.

    `module` is a module given by the user; otherwise the installed one is used. `forced` allows
    untested kernels, and images that cannot be protected. Unknown facts are left to the kernel.
    """
    rules = (
        size_refusal(machine, size),
        existing(machine),
        _module_refusal(machine, module),
        None if forced else untested(machine) or _mapped_in_blocks(machine),
        _permission(machine, module or machine.modules.region or None),
        symbols(machine),
    )
    return next((rule for rule in rules if rule), None)


def _module_refusal(machine: Machine, named: RegionModule | None) -> KexecError | None:
    module = named or machine.modules.region
    if module is None or isinstance(module, Unknown):
        why = f": {module}" if isinstance(module, Unknown) else ""
        return NoModule(
            f"the kernel module {NAME} is not installed for this kernel{why}",
            hint="run pykexec region build, or use DKMS with the source in share/pykexec/module; "
            f"or {advised_boot(machine)}",
        )
    release = machine.release
    if module.release and release and module.release != release:
        return ModuleOfAnotherKernel(
            f"{module.path}: built for the kernel {module.release}, but {release} is running",
            hint="run pykexec region build",
        )
    return None


def untested(machine: Machine) -> KexecError | None:
    """Whether the module was not tested with this kernel, or its release cannot be read."""
    release, architecture = machine.release, machine.architecture
    if release and architecture and series(release) in TESTED.get(architecture, ()):
        return None
    tested = (f"{', '.join(found)} on {name}" for name, found in TESTED.items())
    return UntestedKernel(
        f"the module was not tested with the kernel {release} on {architecture}",
        hint=and_also(f"tested: {'; '.join(tested)}", _forced_or_boot(machine)),
    )


def _forced_or_boot(machine: Machine) -> Advice:
    return any_of(
        Use(Wish.FORCE, rest=" with pykexec region make to insert it anyway"),
        advised_boot(machine),
    )


def _mapped_in_blocks(machine: Machine) -> KexecError | None:
    """arm64 takes a loaded crash image out of its mapping of memory (arch/arm64/kernel/
    machine_kexec.c:arch_kexec_protect_crashkres), page by page. For a region from boot the mapping
    has pages; elsewhere only with rodata=full (arch/arm64/mm/pageattr.c:can_set_direct_map), which
    is the default of Debian's kernels. In 7.2 there is no build option, and rodata=on is the
    default and means the same (arch/arm64/include/asm/setup.h)."""
    if machine.architecture not in ARM64.unames:
        return None
    words = [word for word in (machine.cmdline or "").split() if word.startswith("rodata=")]
    options = machine.config or {}
    full = "rodata=on" if options and RODATA_FULL not in options else "rodata=full"
    if words[-1] in ("rodata=full", full) if words else options.get(RODATA_FULL, "y") == "y":
        return None
    return NotProtected(
        "the kernel could not protect a crash image, as it does not map memory in pages "
        f"({words[-1] if words else f'{RODATA_FULL}=n'})",
        hint=and_also(f"boot with {full}", _forced_or_boot(machine)),
    )


def _permission(machine: Machine, module: RegionModule | None) -> KexecError | None:
    """Why the kernel would not insert a module (kernel/module/main.c:may_init_module)."""
    if machine.capabilities and "CAP_SYS_MODULE" not in machine.capabilities:
        return ModulesRefused(
            "inserting a kernel module requires CAP_SYS_MODULE",
            hint="run as root, outside of containers",
        )
    if machine.modules.disabled:
        return ModulesRefused(
            "kernel.modules_disabled is 1: no module can be inserted",
            hint=f"only a reboot clears it; or {advised_boot(machine)}",
        )
    unsigned = module is not None and module.signed is False
    locked = machine.lockdown if machine.lockdown not in ("none", "") else None
    if unsigned and (locked or machine.modules.signatures_required):
        why = f"lockdown is {locked}" if locked else "module.sig_enforce is set"
        return ModulesRefused(
            f"{why}, and {NAME} is not signed",
            hint="sign it with an enrolled key (mokutil), or " + advised_boot(machine),
        )
    return None


def symbols(machine: Machine) -> KexecError | None:
    if machine.symbols_hidden:
        return SymbolsHidden(
            "/proc/kallsyms hides the addresses that the module needs "
            f"(kernel.kptr_restrict is {machine.sysctls.kptr_restrict})",
            hint="run sysctl kernel.kptr_restrict=1 as root, and restore it afterwards",
        )
    missing = set(REGION_SYMBOLS) - (machine.symbols or set(REGION_SYMBOLS))
    if missing:
        return NoSymbol(
            f"/proc/kallsyms: has no symbol {min(missing)}",
            hint=and_also(
                "the kernel needs CONFIG_KALLSYMS_ALL=y, and 6.0 or later", advised_boot(machine)
            ),
        )
    return None


def is_wanted(machine: Machine, mode: Mode | None) -> bool:
    """Whether a load makes a region: a panic will start the image, there is no region, and the
    module is available."""
    return (
        (mode is None or mode in PANIC_MODES)
        and isinstance(machine.crash_kernel, RangeSet)
        and not machine.crash_kernel
        and isinstance(machine.modules.region, RegionModule)
    )
