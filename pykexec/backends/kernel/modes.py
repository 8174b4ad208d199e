"""Which mode of crash by normal this machine allows: the best one, the reason, and what the others
lack."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.backends.kernel.relocation import Move, relocation
from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.machine import Machine, Unknown
from pykexec.placement.boot_protocol import boot_protocol, memory_encryption
from pykexec.placement.encryption import Encryption
from pykexec.placement.lending import REMEDY, why_not_lend
from pykexec.placement.panic_modes import advised_region
from pykexec.placement.request import Keep, Mode
from pykexec.placement.reservation import in_the_way
from pykexec.remedies import Advice, Omit, Use, Wish, and_also, any_of

PANIC_PREFERENCE = {
    Keep.ALL: (Mode.IN_PLACE, Mode.STUB_SWAP),
    Keep.KERNEL: (Mode.LENT, Mode.IN_PLACE, Mode.STUB_SWAP),
}
"""Best first: only loaded bytes are held; nothing is moved; the stub moves pages."""
ALL_MODES = (Mode.LENT, Mode.IN_PLACE, Mode.STUB_SWAP, Mode.KERNEL_SWAP)


class NoMode(NotSupported):
    """No mode of crash by normal works here; the hint has what each one lacks."""

    code = "no-mode"


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """The modes that can be tried, best first, and what the others lack."""

    modes: tuple[Mode, ...]
    asked_for: bool
    lacking: tuple[tuple[Mode, str], ...] = ()

    def why(self, mode: Mode) -> str:
        return "requested by the user" if self.asked_for else WHY[mode]


def choose_modes(machine: Machine, requested: Mode | None, keep: Keep = Keep.ALL) -> ModeChoice:
    """Raises NoMode if the requested mode, or every mode, lacks something. *kernel-swap* must be
    requested, because no panic starts it."""
    wanted = PANIC_PREFERENCE[keep]
    known = [mode for mode in ALL_MODES if mode in (requested, *wanted, Mode.KERNEL_SWAP)]
    if requested is Mode.FLAG:
        raise NoMode(
            "mode flag needs a kernel with KEXEC_CRASH_BY_NORMAL, and no real one has it",
            hint=any_of(Use(Wish.BACKEND, "simulated"), Omit(Wish.MODE)),
        )
    lacking = {mode: lack for mode in known if (lack := _what_lacks(mode, machine))}
    if requested:
        if lack := lacking.get(requested):
            raise NoMode(f"mode {requested}: {lack[0]}", hint=lack[1])
        return ModeChoice((requested,), asked_for=True)
    if modes := tuple(mode for mode in wanted if mode not in lacking):
        why_not = tuple((mode, lack[0]) for mode, lack in lacking.items())
        return ModeChoice(modes, asked_for=False, lacking=why_not)
    if Mode.KERNEL_SWAP in lacking:
        raise NoMode(
            "no mode of crash by normal works on this machine",
            hint=and_also(*_each_once(lacking)),
        )
    why, remedy = lacking[Mode.IN_PLACE]
    raise NoMode(
        f"no panic could start a crash by normal: {why}",
        hint=and_also(
            remedy, Use(Wish.MODE, "kernel-swap", ": it works, but only pykexec exec starts it")
        ),
    )


def _each_once(lacking: dict[Mode, tuple[str, Advice]]) -> Iterator[Advice]:
    """What the modes lack, then what would help."""
    for what in dict.fromkeys(what for what, _ in lacking.values()):
        yield f"{', '.join(mode for mode in lacking if lacking[mode][0] == what)}: {what}"
    yield from dict.fromkeys(remedy for _, remedy in lacking.values())


WHY = {
    Mode.LENT: "a panic starts it, and only what is loaded is held",
    Mode.IN_PLACE: "a panic starts it, and nothing has to be moved",
    Mode.STUB_SWAP: "a panic starts it, and the stub moves the pages",
    Mode.KERNEL_SWAP: "this kernel swaps pages at a kexec; only pykexec exec starts it",
}


def _what_lacks(mode: Mode, machine: Machine) -> tuple[str, Advice] | None:
    """(what is missing, what would help), or None if the mode can be tried."""
    encrypted = memory_encryption(machine)
    if isinstance(encrypted, Encryption):
        return encrypted.why_no_dump, encrypted.remedy
    if mode is Mode.KERNEL_SWAP:
        return _kernel_swap_lacks(machine)
    lack = _panic_lacks(machine)
    if lack is None and mode is Mode.LENT and (why := why_not_lend(machine)):
        return why, REMEDY
    return lack


def _kernel_swap_lacks(machine: Machine) -> tuple[str, Advice] | None:
    moves = relocation(machine)
    if moves.swap_flags is None:
        if moves.plain is Move.UNKNOWN:
            return f"it is unknown whether this kernel swaps pages: {moves.why}", "run as root"
        return f"this kernel copies pages at a kexec ({moves.why})", advised_region(machine)
    if machine.symbols_hidden is True:
        return (
            "/proc/kallsyms hides its addresses, so the backup pages cannot be read back",
            "run as root, with sysctl kernel.kptr_restrict=1",
        )
    if machine.lockdown == "confidentiality":
        return "lockdown=confidentiality: /proc/kcore cannot be read", "boot without it"
    return None


def _panic_lacks(machine: Machine) -> tuple[str, Advice] | None:
    if isinstance(machine.crash_kernel, Unknown):
        return f"the crash region is {machine.crash_kernel}", "run as root"
    if not machine.crash_kernel:
        return "there is no crash region", advised_region(machine)
    if why := in_the_way(machine, machine.crash_kernel):
        return why, advised_region(machine)
    return None


WARN_REBOOT = (
    "a plain reboot may now start the capture kernel: init scripts run kexec -e when an image "
    "is loaded"
)
MOVED_TABLES = (
    "the window may hold tables of an IOMMU, and after the exchange devices would write anywhere"
)
IN_FLIGHT = (
    "device reads in progress at a panic may still write to the window, whose memory is in use "
    "until then"
)


def mode_warnings(mode: Mode, machine: Machine, movable: bool = False) -> tuple[str, ...]:
    """Warnings about what this mode cannot guarantee. A window in movable memory contains no stacks
    or page tables of halted CPUs, no buffers allocated for devices, and no tables of an IOMMU."""
    if movable:
        return () if mode is Mode.LENT else (IN_FLIGHT,)
    own = {
        Mode.KERNEL_SWAP: (
            WARN_REBOOT,
            f"no panic starts it, only pykexec exec does; {advised_region(machine)}",
        ),
        Mode.STUB_SWAP: (
            *boot_protocol(machine).moved_warnings(machine),
            *_iommu_warnings(machine),
        ),
    }
    return (*own.get(mode, ()), _dma_warning(mode, machine))


def _dma_warning(mode: Mode, machine: Machine) -> str:
    """Which devices may still write at the switch, and whether an IOMMU translates for them."""
    where = "the memory of the window is in use until the switch"
    if mode is Mode.IN_PLACE:
        low = boot_protocol(machine).limits.low_memory
        pages = f"only the pages below {low.end >> 10} KiB are" if low else "no page is"
        where = f"{pages} used by anything else after the load"
    return f"DMA: {_bus_masters(machine)}, {_iommu(mode, machine)}; {where}"


def _iommu_warnings(machine: Machine) -> tuple[str, ...]:
    """What *stub-swap* cannot guarantee: devices continue after a panic, using tables in memory
    that the stub may move (only a kexec without a panic disables translation)."""
    found = machine.iommus
    if isinstance(found, Unknown):
        if machine.iommu_groups == 0:
            return ()
        return (f"{MOVED_TABLES}: the list of IOMMUs is {found}",)
    if not found.names and not machine.iommu_groups:
        return ()
    if found.why_unknown is not None:
        return (f"{MOVED_TABLES}: their addresses are unknown: {found.why_unknown}",)
    return (f"{MOVED_TABLES}: its root tables are avoided, but its page tables may be anywhere",)


def _bus_masters(machine: Machine) -> str:
    if isinstance(machine.pci_devices, Unknown):
        return f"bus-mastering devices {machine.pci_devices}"
    found = [
        f"{device.address} ({device.driver or 'no driver'})"
        for device in machine.pci_devices
        if device.bus_master and not device.is_bridge
    ]
    return (
        f"{len(found)} bus-mastering devices: {', '.join(found)}"
        if found
        else "no bus-mastering devices"
    )


def _iommu(mode: Mode, machine: Machine) -> str:
    if isinstance(machine.iommu_groups, Unknown):
        return f"IOMMU {machine.iommu_groups}"
    if machine.iommu_groups and mode is Mode.STUB_SWAP:
        return "an IOMMU translates, but its tables may be in the window"
    return "an IOMMU translates" if machine.iommu_groups else "no IOMMU"
